"""Answers how well agents work, as a score with its reasons."""
