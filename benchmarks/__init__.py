"""Figures with their conditions: one command each, ratios measured side by side in one run. CI runs none of it."""
