"""``headend bench``: the benchmarks, as ratios in one run; ``headend bench night``: a county's night."""

import asyncio
from dataclasses import asdict
from typing import Annotated, Any, NoReturn

import typer

from headend.bench.processes import BenchError
from headend.bench.run import FULL, PARTS, QUICK, run
from headend.cli.terminal import err, out, print_json
from headend.store.embedded_folder import EmbeddedPostgresError
from headend.store.migrate import DatabaseError

app = typer.Typer(
    help="Measure: what things cost beside their references, and a whole night.",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
)

AsJson = Annotated[bool, typer.Option("--json", help="The result as JSON on standard output.")]


@app.callback()
def bench(
    context: typer.Context,
    only: Annotated[str, typer.Option(help=f"Parts to run, by commas: {', '.join(PARTS)}.")] = ",".join(
        PARTS
    ),
    quick: Annotated[
        bool, typer.Option("--quick", help="Short rounds: does it run, not how fast is it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure decoding, sessions, storing and open associations beside their references.

    The peers gurux-dlms and dlms-cosem are installed by `make bench` only. Storing goes to the TimescaleDB
    that HEADEND_TEST_TIMESCALEDB_URL names, else to an embedded PostgreSQL. Exit status 1 when a mark is
    missed (never with --quick). `headend bench night` is a command of its own.
    """
    if context.invoked_subcommand is not None:
        return
    parts = [name.strip() for name in only.split(",") if name.strip()]
    unknown = [name for name in parts if name not in PARTS]
    if unknown or not parts:
        err.print(
            f"headend: no part {', '.join(unknown) or 'is named'}; known: {', '.join(PARTS)}", style="red"
        )
        raise typer.Exit(2)
    try:
        report = run(parts, QUICK if quick else FULL, _say)
    except (BenchError, DatabaseError, EmbeddedPostgresError) as error:
        _fail(error)
    if as_json:
        print_json(report.as_json())
    else:
        out.print(report.table())
        for note in report.notes:
            out.print(note)
    if not quick and not report.holds:
        raise typer.Exit(1)


@app.command()
def night(
    meters: Annotated[int, typer.Option(min=10, max=1_000_000, help="Size of the county.")] = 154_000,
    scenario: Annotated[str, typer.Option(help="direct (its marks), or mixed (no marks).")] = "direct",
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes of the worker.")] = 2,
    conversations: Annotated[
        int, typer.Option(min=1, max=10_000, help="HEADEND_COLLECTOR_CONCURRENCY of all workers together.")
    ] = 64,
    simulators: Annotated[int, typer.Option(min=1, max=64, help="Processes of the simulator.")] = 2,
    sample: Annotated[
        int, typer.Option(min=0, help="Meters that each peer reads, the first unmeasured; 0: no peers.")
    ] = 1_001,
    deadline: Annotated[float, typer.Option(min=1, help="Seconds for each of the two nights.")] = 1_200.0,
    as_json: AsJson = False,
) -> None:
    """Read a simulated county to the end, twice, and print what it cost by process.

    Simulator, worker, scheduler, API and database run on this machine. All meters are read once as new ones,
    then for the night that is measured, while single meters are read now through the API. Then gurux-dlms and
    dlms-cosem, where they are installed, read a sample of the same meters into the same database.

    Example: headend bench night --meters 1000 --sample 0
    """
    from headend.bench.night.report import as_json as told
    from headend.bench.night.report import marks, rendered
    from headend.bench.night.run import measure
    from headend.bench.night.service import Plan

    plan = Plan(scenario, meters, simulators, workers, conversations, sample, deadline_s=deadline)
    try:
        found = asyncio.run(measure(plan, _say))
    except (BenchError, DatabaseError, EmbeddedPostgresError) as error:
        _fail(error)
    if as_json:
        print_json(told(found))
    else:
        out.print(rendered(found))
    if any(mark.holds is False for mark in marks(found)):
        raise typer.Exit(1)


@app.command()
def slow(
    fast: Annotated[int, typer.Option(min=1, help="Concentrators that answer at once.")] = 490,
    slow_ones: Annotated[int, typer.Option("--slow", min=1, help="Those that take a minute.")] = 10,
    each: Annotated[int, typer.Option(min=1, help="Meters behind each.")] = 20,
    rounds: Annotated[int, typer.Option(min=1, max=20, help="Rounds without and with the slow ones.")] = 3,
    cut_off: Annotated[float, typer.Option(min=1, help="No attempt begins after so many seconds.")] = 90.0,
    as_json: AsJson = False,
) -> None:
    """Read fast concentrators alone and beside slow ones, which are cut off and stand in the gap ledger."""
    from headend.bench.night.slow import MOST, measure

    try:
        found = asyncio.run(measure(fast, slow_ones, each, rounds, cut_off, _say))
    except (BenchError, DatabaseError, EmbeddedPostgresError) as error:
        _fail(error)
    if as_json:
        print_json({**asdict(found), "times": found.times, "holds": found.holds})
    else:
        out.print(
            f"{found.fast:,} meters behind {fast} fast concentrators: {min(found.alone_s):.1f} s alone, "
            f"{min(found.beside_s):.1f} s beside {slow_ones} slow ones: {found.times:.3f} x (mark {MOST} x)"
        )
        out.print(
            f"of {found.slow:,} meters behind slow ones {found.unread:,} were unread when it was cut off "
            f"after {cut_off:.0f} s; {found.gaps:,} of them stand in the gap ledger"
        )
    if not found.holds:
        raise typer.Exit(1)


@app.command()
def tariff(
    meters: Annotated[int, typer.Option(min=1, max=1_000_000, help="Size of the field.")] = 10_000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes of the worker.")] = 2,
    conversations: Annotated[
        int, typer.Option(min=1, max=10_000, help="HEADEND_COLLECTOR_CONCURRENCY of all workers together.")
    ] = 64,
    simulators: Annotated[int, typer.Option(min=1, max=64, help="Processes of the simulator.")] = 2,
    deadline: Annotated[float, typer.Option(min=1, help="Seconds that it may take.")] = 1_800.0,
    as_json: AsJson = False,
) -> None:
    """Apply a tariff program to a field in which two meters of a thousand store it wrongly.

    Every read-back must be equal, and exactly these must be told. Exit status 1 where it is otherwise.
    """
    from headend.bench.tariff import measure

    try:
        found = asyncio.run(
            measure(
                meters, simulators=simulators, workers=workers, conversations=conversations,
                deadline_s=deadline, say=_say,
            )
        )  # fmt: skip
    except (BenchError, DatabaseError, EmbeddedPostgresError) as error:
        _fail(error)
    if as_json:
        print_json(found.as_json())
    else:
        told = found.as_json()
        out.print(
            f"{found.meters:,} meters in {found.seconds:.1f} s: {told['meters_per_s']:,} meters/s "
            f"({found.where})"
        )
        out.print(f"{found.equal:,} read-backs are equal, element by element")
        out.print(f"{len(found.found)} store it wrongly, {len(found.struck)} were made to")
        for name in found.found:
            out.print(f"  {name}")
        if found.example:
            out.print(found.example, soft_wrap=True)
        for reason, count in found.others.items():
            out.print(f"{count:,} {reason}", style="red", soft_wrap=True)
        out.print("CPU, ms a meter: " + ", ".join(f"{kind} {ms}" for kind, ms in told["cpu_ms"].items()))
    if not found.holds:
        raise typer.Exit(1)


@app.command()
def firmware(
    meters: Annotated[int, typer.Option(min=1, max=100_000, help="Size of the field.")] = 1_000,
    size: Annotated[int, typer.Option(min=1_000, max=16_000_000, help="Bytes of the image.")] = 262_144,
    loss: Annotated[float, typer.Option(min=0, max=0.5, help="Share of blocks, or answers, lost.")] = 0.05,
    kills: Annotated[int, typer.Option(min=0, max=1_000, help="How often a worker is killed.")] = 10,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes of the worker.")] = 2,
    conversations: Annotated[
        int, typer.Option(min=1, max=10_000, help="HEADEND_COLLECTOR_CONCURRENCY of all workers together.")
    ] = 256,
    simulators: Annotated[int, typer.Option(min=1, max=64, help="Processes of the simulator.")] = 2,
    night: Annotated[float, typer.Option(min=1, help="Seconds within which the night is read.")] = 600.0,
    deadline: Annotated[float, typer.Option(min=1, help="Seconds that it may take.")] = 1_800.0,
    only: Annotated[str, typer.Option(help="fleet, clean, or both by a comma.")] = "fleet,clean",
    as_json: AsJson = False,
) -> None:
    """Bring firmware to a field behind a lossy link while workers are killed and the night is read; then to
    a few meters over a clean link, for the rate. Exit status 1 where a mark is missed."""
    from headend.bench.firmware import BLOCK, RATE, clean, fleet

    async def measured() -> tuple[Any, Any]:
        whole = quick = None
        if "fleet" in only:
            whole = await fleet(
                meters, size, loss, kills, workers=workers, conversations=conversations,
                simulators=simulators, deadline_s=deadline, night_within_s=night, say=_say,
            )  # fmt: skip
        if "clean" in only:
            quick = await clean(4, size, say=_say)
        return whole, quick

    try:
        whole, quick = asyncio.run(measured())
    except (BenchError, DatabaseError, EmbeddedPostgresError) as error:
        _fail(error)
    if as_json:
        told = {} if whole is None else {"fleet": asdict(whole) | {"holds": whole.holds}}
        if quick is not None:
            told["clean"] = asdict(quick) | {"share": quick.share, "holds": quick.holds}
        print_json(told)
    if whole is not None and not as_json:
        out.print(
            f"{whole.updated:,} of {whole.meters:,} meters at the new version ({whole.size:,} bytes, "
            f"{whole.loss:.0%} lost, {whole.kills} kills) in {whole.seconds:.0f} s ({whole.where})"
        )
        out.print(
            f"{whole.images['blocks']:,} blocks taken, {whole.again} for a place that was taken "
            f"({whole.images['again_told']} of them told of)"
        )
        out.print(
            f"the night meanwhile: {whole.night.done:,} of {whole.night.total:,} meters, the last after "
            f"{whole.night_s:.0f} s of {whole.night_within_s:.0f} s"
        )
        for reason, count in whole.others.items():
            out.print(f"{count:,} {reason}", style="red", soft_wrap=True)
        out.print("CPU, s: " + ", ".join(f"{kind} {one.cpu_s:.0f}" for kind, one in whole.costs.items()))
    if quick is not None and not as_json:
        out.print(
            f"clean link, round trip {1000 * quick.round_trip_s:.1f} ms, blocks of {BLOCK:,}: the slowest "
            f"meter takes {min(quick.rates):,.0f} bytes/s, {quick.share:.1%} of a block for each round trip "
            f"(mark {RATE:.0%})"
        )
    if not all(one.holds for one in (whole, quick) if one is not None):
        raise typer.Exit(1)


def _say(what: str) -> None:
    err.print(f"bench: {what}", style="dim")


def _fail(error: Exception) -> NoReturn:
    err.print(f"headend: {error}", style="red", markup=False, soft_wrap=True)
    raise typer.Exit(1) from None
