"""The ``ctrserve`` command. Training lives in ``models``, the service in ``app``."""
