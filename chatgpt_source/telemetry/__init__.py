"""Observers and traces of what happens."""
