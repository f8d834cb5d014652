"""Grids of codes drawn from a transformer."""
