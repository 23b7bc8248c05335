"""``python -m concentrator_sim`` is ``concentrator-sim``."""

from concentrator_sim.cli import app

app(prog_name="concentrator-sim")
