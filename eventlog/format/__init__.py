"""The format of an event: envelope, ids, times, payloads, schemas, and the built-in event types."""
