"""Events as they were emitted: listed page by page, looked up by id, counted."""
