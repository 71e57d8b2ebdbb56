"""Signals about every write."""
