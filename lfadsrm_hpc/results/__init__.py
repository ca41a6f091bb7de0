"""What came out: posterior means, fit logs, metrics and plots."""
