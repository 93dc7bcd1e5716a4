"""Simulated corridors, cameras and drives, in which the alert decides about contact."""
