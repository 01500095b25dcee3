"""HTTP server and client, without knowledge of prompts."""
