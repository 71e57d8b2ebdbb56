"""The HTTP door: load, call, dump."""
