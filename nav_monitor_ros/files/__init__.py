"""Atomic files and folders, paths, pictures on disk, and untrusted YAML."""
