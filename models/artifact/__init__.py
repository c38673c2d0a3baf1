"""Artifacts: written once, verified at every load, swapped by one small file."""
