"""From a click log to a checked artifact: schema, encoding, DeepFM, calibration, training. Never imports ``app``."""
