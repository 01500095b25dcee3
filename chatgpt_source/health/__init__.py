"""Judges how well the daemon is: the one judgement that page, probes, API and metrics tell."""
