"""Activations and verdicts in, pictures out."""
