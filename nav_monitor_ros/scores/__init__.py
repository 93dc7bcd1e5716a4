"""Scores: one number per frame from its activations; larger is more unusual."""
