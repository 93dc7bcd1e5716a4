"""The command line nav_monitor."""
