"""Fitting and evaluation on a Ray cluster."""
