"""Access to the index: the reader, and the sandbox around untrusted SQL."""
