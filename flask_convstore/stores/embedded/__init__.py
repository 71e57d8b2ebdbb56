"""A real Valkey server of our own, shared by the processes of a host."""
