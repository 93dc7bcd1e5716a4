"""Networks that torch runs: built from code, loaded with weights, and put into service."""
