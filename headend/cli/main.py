"""The headend command: one module per group of commands, gathered here."""

from typing import Annotated

import typer

from headend.cli import db, meters, shell, tokens
from headend.cli.decode import decode
from headend.cli.read import collect, read
from headend.cli.run import run

app = typer.Typer(
    name="headend",
    help="An open head-end for smart meters: read, store and serve load curves.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,  # locals may hold keys
)
app.add_typer(db.app, name="db")
app.add_typer(meters.app, name="meters")
app.add_typer(tokens.app, name="token")
app.command()(run)
app.command()(read)
app.command()(collect)
app.command()(decode)


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    """Options of all commands."""
    shell.flags.debug = debug
