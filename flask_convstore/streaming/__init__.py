"""Streams of replies in this process: those that are produced here, and those that are followed here."""
