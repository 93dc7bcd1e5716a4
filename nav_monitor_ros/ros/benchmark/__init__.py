"""Whole nodes measured over DDS."""
