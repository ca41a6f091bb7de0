"""Where it runs: the local queue now, SLURM and PBS beside it."""
