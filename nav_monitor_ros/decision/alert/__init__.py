"""The alert, computed from verdicts and faults. No clock and no ROS: time is an argument."""
