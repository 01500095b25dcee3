"""HTTP, for whoever serves or calls: nothing here knows what a prompt is."""
