"""A seeded simulator of ad logs with known click probabilities."""
