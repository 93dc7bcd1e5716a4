"""The node ``camera``, which publishes stored images like a camera."""
