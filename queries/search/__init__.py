"""Answers which events have the words of a search, the best first."""
