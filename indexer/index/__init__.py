"""The index file: its lock, its DuckDB instance, its tables, its checkpoints."""
