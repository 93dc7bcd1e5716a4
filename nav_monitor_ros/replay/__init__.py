"""Recorded images through the same monitor that the node runs, without DDS."""
