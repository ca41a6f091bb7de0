"""Runs of the Matlab run manager: read as if they were ours, and ours written as if they were its own."""
