"""Accepts prompts by HTTP, and answers requests about them."""
