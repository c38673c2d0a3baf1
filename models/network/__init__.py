"""DeepFM: the torch module that learns, its compiled operators, the serving head, calibration."""
