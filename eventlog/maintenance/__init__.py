"""Maintenance of a log: seal, verify, archive, back up, restore."""
