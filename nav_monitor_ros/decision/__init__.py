"""Scores in, a verdict and an alert out. No clock and no ROS: time is an argument."""
