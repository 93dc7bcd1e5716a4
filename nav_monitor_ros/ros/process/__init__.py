"""Process of a node: signals, output, log, executors, ROS domains."""
