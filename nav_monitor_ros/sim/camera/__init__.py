"""The robot's camera: rendering, what is visible, and the effects of lens and sensor."""
