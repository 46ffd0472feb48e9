"""Answers as text: units, cells, tables."""
