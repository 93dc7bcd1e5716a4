"""Verdicts and faults in, an alert out. No clock and no ROS: time is an argument."""
