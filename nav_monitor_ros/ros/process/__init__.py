"""A node as a process: signals, output, log, executors, ROS domains."""
