"""What a trained network tells: posterior means of trials, and samples from its prior."""
