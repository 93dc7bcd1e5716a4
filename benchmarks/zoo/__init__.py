"""A collection of small networks by which the default score is chosen and reported (README.md)."""
