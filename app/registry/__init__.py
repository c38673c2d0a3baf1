"""Which model version is served: watch, load, verify, swap and roll back."""
