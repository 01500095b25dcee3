"""What leaves: events, and the calls that deliver them."""
