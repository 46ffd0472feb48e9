"""Importers: other programs' JSON lines as events, verbatim, any number of times.

    file → source → records → envelopes → recorder

What makes a second import harmless is that ids are derived from what is imported, so the
index keeps one row. What makes it cheap, and keeps each line in the log once, is that a
source is known again by its content, with how far it was read (`positions`).
"""
