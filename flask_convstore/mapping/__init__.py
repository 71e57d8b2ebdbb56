"""The dict door: the drop-in for ``conversation_sessions = {}``."""
