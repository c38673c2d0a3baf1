"""The whole offline path: log to checked artifact."""
