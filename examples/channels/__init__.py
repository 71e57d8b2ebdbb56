"""One chat for Telegram, Slack and the like: aliases lead from their conversations to sessions."""
