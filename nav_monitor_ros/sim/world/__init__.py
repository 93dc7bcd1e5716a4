"""Worlds made by seed: floor plans, textures, known and unknown objects, and their MJCF."""
