"""ROS 2 bags, read without ROS."""
