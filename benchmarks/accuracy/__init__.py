"""Accuracy of ctrserve and of other libraries on one log, one split and the same inputs; see ``__main__``."""
