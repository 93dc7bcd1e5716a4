"""Verdicts and alerts, computed from scores. No clock and no ROS: time is an argument."""
