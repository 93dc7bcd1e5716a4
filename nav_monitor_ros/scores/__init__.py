"""Activations in, one number a frame out: larger is more unusual."""
