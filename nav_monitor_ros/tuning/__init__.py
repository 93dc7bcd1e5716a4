"""Class tuning over training."""
