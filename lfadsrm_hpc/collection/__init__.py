"""What to run: run params, sweeps, run specs, runs, run collections."""
