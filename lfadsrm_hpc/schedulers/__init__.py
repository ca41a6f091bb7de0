"""Where it runs: the local queue, Slurm, PBS Pro and Torque, and what is handed to them."""
