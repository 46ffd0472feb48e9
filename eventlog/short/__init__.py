"""The short way: what a prompt, a hook or a shell waits for, done before the rest of eventlog is loaded.

Loading msgspec, click and the recorder takes longer than all that these commands do. So this room imports the standard
library alone, and little of that. It never does anything in a way of its own: where it is not certain to do what
the full way would, a module steps aside (it returns, and has changed nothing), and the full way does it
(docs/decisions/0037-the-short-way.md).
"""
