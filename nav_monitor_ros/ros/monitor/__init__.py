"""The lifecycle node nav_monitor."""
