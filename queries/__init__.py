"""Reading the index: the ReadStore, and what is built on it."""
