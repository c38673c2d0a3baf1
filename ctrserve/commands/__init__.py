"""Commands that belong to no other package."""
