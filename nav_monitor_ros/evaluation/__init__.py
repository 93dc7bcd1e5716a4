"""Scores compared on in-distribution and out-of-distribution images."""
