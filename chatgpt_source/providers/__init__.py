"""The providers of language models, and how each is called."""
