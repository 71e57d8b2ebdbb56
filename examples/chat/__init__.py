"""A web chat: the start page talks to the blueprint."""
