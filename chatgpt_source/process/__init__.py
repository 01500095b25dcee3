"""The process we are: its signals, and the parent that waits for its start."""
