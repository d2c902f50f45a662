"""Official clients and the vendors' specifications against the simulator; opt-in."""
