"""``headend bench``: the benchmarks, as ratios in one run."""

from typing import Annotated

import typer

from headend.bench.processes import BenchError
from headend.bench.run import FULL, PARTS, QUICK, run
from headend.cli.terminal import err, out, print_json
from headend.store.embedded_folder import EmbeddedPostgresError
from headend.store.migrate import DatabaseError


def bench(
    only: Annotated[str, typer.Option(help=f"Parts to run, by commas: {', '.join(PARTS)}.")] = ",".join(
        PARTS
    ),
    quick: Annotated[
        bool, typer.Option("--quick", help="Short rounds: does it run, not how fast is it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The result as JSON on standard output.")] = False,
) -> None:
    """Measure decoding, sessions, storing and open associations beside their references.

    The peers gurux-dlms and dlms-cosem are installed by `make bench` only. Storing goes to the TimescaleDB
    that HEADEND_TEST_TIMESCALEDB_URL names, else to an embedded PostgreSQL. Exit status 1 when a mark is
    missed (never with --quick).
    """
    parts = [name.strip() for name in only.split(",") if name.strip()]
    unknown = [name for name in parts if name not in PARTS]
    if unknown or not parts:
        err.print(
            f"headend: no part {', '.join(unknown) or 'is named'}; known: {', '.join(PARTS)}", style="red"
        )
        raise typer.Exit(2)
    try:
        report = run(parts, QUICK if quick else FULL, lambda what: err.print(f"bench: {what}", style="dim"))
    except (BenchError, DatabaseError, EmbeddedPostgresError) as error:
        err.print(f"headend: {error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    if as_json:
        print_json(report.as_json())
    else:
        out.print(report.table())
        for note in report.notes:
            out.print(note)
    if not quick and not report.holds:
        raise typer.Exit(1)
