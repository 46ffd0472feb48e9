"""What was said and done in a run or a session, in the order of the log.

    views of the index, payloads of recorded events ──reading──→ entries ──building──→ Conversation
                                                     └──recorded──┘ (messages of model calls, each text once)
    Conversation ──shared──→ one page in Markdown or HTML, redacted

The structs of the answer are in `structs`.
"""
