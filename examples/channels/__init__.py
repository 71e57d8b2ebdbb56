"""One chat for Telegram, Slack and the like: their conversations are aliases of sessions."""
