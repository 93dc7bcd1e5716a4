"""Pixels in, activations out: decoding, preprocessing, networks and their layers."""
