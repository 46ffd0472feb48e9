"""The commands of the server: `up`, `service`, `serve`, `keys`."""
