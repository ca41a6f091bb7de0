"""Slurm: its client programs, what they print, and what their errors mean."""
