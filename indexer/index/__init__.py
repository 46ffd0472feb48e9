"""The index file: who may open it, its engine, its tables, its checkpoints."""
