"""``python -m models.simulator``."""

from models.simulator.simulation import main

main()
