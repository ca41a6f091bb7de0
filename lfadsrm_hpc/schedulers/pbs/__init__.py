"""PBS Pro, OpenPBS and Torque: their client programs, what those print, and how jobs ended."""
