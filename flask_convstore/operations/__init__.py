"""Every operation on conversations. Nothing here knows Flask or Redis."""
