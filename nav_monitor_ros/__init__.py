"""A classifier node for ROS 2 that knows when not to believe itself."""

__version__ = '0.1.0'
