"""A product assistant with an analysis step: a dict of sessions, and three lines instead of it."""
