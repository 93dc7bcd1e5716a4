"""What costs how much on this machine."""
