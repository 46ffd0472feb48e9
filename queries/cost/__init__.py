"""What model calls cost: computed by query, from the tokens of each call and the prices of its time."""
