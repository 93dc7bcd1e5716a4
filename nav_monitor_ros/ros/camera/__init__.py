"""The node camera, which plays images as a camera publishes them."""
