"""Training speed of DeepFM here and in other libraries, side by side on one machine; see ``__main__``."""
