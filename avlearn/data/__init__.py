"""Data sets: clips, their windows, their labels."""
