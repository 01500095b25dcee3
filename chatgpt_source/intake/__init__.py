"""What arrives: prompts, questions about them, and who may send them."""
