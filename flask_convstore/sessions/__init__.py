"""A session in the app's hands: content, baseline, diff and merge."""
