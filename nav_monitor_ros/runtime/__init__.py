"""A bundle in service: images in, verdicts and the alert out, without ROS."""
