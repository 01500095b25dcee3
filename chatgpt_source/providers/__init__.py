"""The providers of language models: one module for each API."""
