"""Loading: lines validated, staged and stored, one batch in one transaction."""
