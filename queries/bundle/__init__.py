"""Bundles: all lines of a run, a session or a request in one file, with proofs, for whoever has nothing else."""
