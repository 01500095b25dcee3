"""Encodes events and delivers them."""
