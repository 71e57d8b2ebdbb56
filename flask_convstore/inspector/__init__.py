"""The inspector: pages on which an operator looks at conversations, finds one, and deletes it. Imported when an app asks."""
