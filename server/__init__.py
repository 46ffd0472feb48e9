"""The server: keyed ingest, a live stream and one read API over HTTP. It owns no data and can be killed at any time."""
