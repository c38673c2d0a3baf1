"""How a DeepFM is learnt: the step, the trainer, tuning."""
