"""From log bytes to DuckDB rows: sweep, checkpoint, load, replay."""
