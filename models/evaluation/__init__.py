"""Metrics, intervals, baselines and the bounds that a new model must meet."""
