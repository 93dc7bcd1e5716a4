"""Inspection of networks: layers, gradients, filters."""
