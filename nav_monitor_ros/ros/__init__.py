"""Topics in, topics out: the only room that imports rclpy."""
