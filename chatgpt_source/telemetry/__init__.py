"""What happens, told to whoever watches: observers and traces."""
