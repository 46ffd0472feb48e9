"""A day in the life of some agents, made up, so that every command has something to show."""
