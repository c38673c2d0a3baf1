"""DeepFM: the torch module that is trained, its compiled operators, the heads that score, calibration."""
