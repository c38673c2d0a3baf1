"""``make demo`` and the packaged Redis that it starts."""
