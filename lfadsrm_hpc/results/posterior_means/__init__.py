"""Posterior means on disk: what a file holds, how it is written, and how one or many of them are opened."""
