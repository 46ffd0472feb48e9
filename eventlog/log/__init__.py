"""The log on disk: segments, how lines get into them, how they are read, and what was in them when they ended."""
