"""Sending what the local log has to a server: the mode `remote`.

    emit → local log → Sender, a thread → POST /v1/events → the server's log
                         │
                         └ <root>/sending.json: how far each segment was sent

The local log is the buffer: a server that is down, full or unknown costs nothing but time. What was sent is sent once
for each line, or again with the same id after a crash, which is the same row.
"""
