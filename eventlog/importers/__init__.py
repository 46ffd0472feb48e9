"""Importers: other programs' JSON lines as events, verbatim, any number of times.

    source → records → envelopes → recorder

What makes a second import harmless is that ids are derived from what is imported, so the
index keeps one row; what makes it cheap is an `import_checkpoint` event that says how far
a source was read and what those bytes hash to.
"""
