"""The node ``safety_stop``, which gates velocity commands on the alert."""
