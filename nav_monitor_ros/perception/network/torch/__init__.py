"""Networks run by torch: building, loading of weights, forward passes."""
