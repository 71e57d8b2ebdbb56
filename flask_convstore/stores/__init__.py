"""The stores that keep sessions: in memory, in Redis or Valkey, in an embedded server."""
