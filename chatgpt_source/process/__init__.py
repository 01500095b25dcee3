"""The daemon's process: its signals, and the parent that waits for its start."""
