"""Training a DeepFM: the step on a batch, the epochs, the refit with the validation rows, tuning."""
