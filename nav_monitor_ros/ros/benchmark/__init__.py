"""Measurements of complete nodes over DDS."""
