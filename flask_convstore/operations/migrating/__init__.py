"""Migration of conversations that other code has written into a server."""
