"""How well agents are, as a score with its reasons."""
