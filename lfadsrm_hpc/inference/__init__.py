"""Trained runs on new trials, and on sessions that they were not trained on."""
