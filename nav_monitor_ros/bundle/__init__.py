"""A fitted monitor on disk."""
