"""Views: typed events, and what unites recorded and imported ones."""
