"""Gradients of a network as pictures."""
