"""Runs beside each other: tables of their numbers, the best of them, and words about it."""
