"""``python -m headend.cli``: the command where its script is not at hand."""

from headend.cli.main import app

app(prog_name="headend")
