"""The robot: its kinematics, its footprint and the driver that follows a path."""
