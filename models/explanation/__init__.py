"""Why a probability: the contributions to its logit, and the evidence behind its values."""
