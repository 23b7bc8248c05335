"""headend quarantine: payloads that could not be stored, and what became of them."""

from typing import Annotated, Any

import typer
from rich.table import Table

from headend.cli.acting import acting
from headend.cli.shell import base, reported
from headend.cli.terminal import CommandError, out, print_json
from headend.house import open_house
from headend.mqtt.replay import drop as drop_payload
from headend.store import batch_runs, quarantine
from headend.store.errors import ConflictError

app = typer.Typer(
    help="MQTT payloads that could not be stored, and batches that are missing.",
    no_args_is_help=True,
    add_completion=False,
)
Number = Annotated[int, typer.Argument(help="The payload's number.")]
Json = Annotated[bool, typer.Option("--json", help="For scripts; payloads whole, as hex.")]
_PAGE = 500


def _document(one: quarantine.Kept) -> dict[str, Any]:
    return {
        "number": one.number,
        "topic": one.topic,
        "reason": one.reason,
        "identity": one.identity,
        "times": one.times,
        "first_at": one.first_at,
        "last_at": one.last_at,
        "retained": one.retained,
        "bytes": one.size,
        "state": one.state.value,
        "payload": one.payload.hex(),
    }


@app.command("list")
@reported
async def list_command(
    after: Annotated[int, typer.Option(min=0, help="Only payloads with higher numbers.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
    topic: Annotated[str | None, typer.Option(help="Of this topic alone.")] = None,
    identity: Annotated[str | None, typer.Option(help="Of this device alone.")] = None,
    settled: Annotated[bool, typer.Option("--all", help="Replayed and dropped ones too.")] = False,
    as_json: Json = False,
) -> None:
    """List payloads that wait, oldest first."""
    async with base() as opened, opened.pool.connection() as connection:
        found = await quarantine.page(
            connection, limit=limit, after=after, settled=settled, topic=topic, identity=identity
        )
    if as_json:
        print_json([_document(one) for one in found])
        return
    if not found:
        out.print("no payload waits")
        return
    table = Table("number", "last", "times", "topic", "bytes", "state", "reason")
    for one in found:
        table.add_row(
            str(one.number), f"{one.last_at:%F %T}Z", str(one.times), one.topic, str(one.size), one.state,
            one.reason,
        )  # fmt: skip
    out.print(table)


@app.command("count")
@reported
async def count(as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False) -> None:
    """How many payloads wait, by reason."""
    async with base() as opened, opened.pool.connection() as connection:
        found = await quarantine.counts(connection)
    if as_json:
        print_json([{"reason": c.reason, "payloads": c.payloads, "times": c.times} for c in found])
        return
    if not found:
        out.print("no payload waits")
        return
    table = Table("payloads", "times", "reason")
    for one in found:
        table.add_row(str(one.payloads), str(one.times), one.reason)
    out.print(table)


@app.command("show")
@reported
async def show(number: Number) -> None:
    """One payload, whole. `headend decode` explains it."""
    async with base() as opened, opened.pool.connection() as connection:
        found = await quarantine.get(connection, number)
    print_json(_document(found))


@app.command("replay")
@reported
async def replay(
    numbers: Annotated[list[int] | None, typer.Argument(help="Numbers of payloads.")] = None,
    topic: Annotated[str | None, typer.Option(help="All that wait of this topic.")] = None,
    identity: Annotated[str | None, typer.Option(help="All that wait of this device.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that wait.")] = False,
) -> int:
    """Decode and store payloads again, after a fix or when their device is known now."""
    if not (numbers or topic or identity or everything):
        raise CommandError("say which: numbers, --topic, --identity or --all")
    stored = left = 0
    async with base() as opened, open_house(opened) as house:
        async with opened.pool.connection() as connection:
            who = await acting(connection, opened, "quarantine.replayed", "quarantine")
        wanted = list(numbers or [])
        after = 0
        while topic or identity or everything:
            async with opened.pool.connection() as connection:
                page = await quarantine.page(
                    connection, limit=_PAGE, after=after, topic=topic, identity=identity
                )
            if not page:
                break
            wanted += [one.number for one in page]
            after = page[-1].number
        for number in wanted:
            try:
                done = await house.replay(number, actor=who.actor)
            except ConflictError as error:
                out.print(str(error), markup=False, soft_wrap=True)
                left += 1
                continue
            if done.reason is None:
                stored += 1
            else:
                left += 1
                out.print(f"{number} waits: {done.reason}", markup=False, soft_wrap=True)
    out.print(f"{stored} stored, {left} not")
    return 1 if left else 0


@app.command("drop")
@reported
async def drop(number: Number) -> None:
    """Settle a payload that nobody wants. It stays stored."""
    async with base() as opened:
        async with opened.pool.connection() as connection:
            who = await acting(connection, opened, "quarantine.dropped", f"quarantine:{number}")
        await drop_payload(opened.pool.connection, number, actor=who.actor)
    out.print(f"payload {number} is dropped")


@app.command("gaps")
@reported
async def gaps(
    closed: Annotated[bool, typer.Option("--all", help="Those that are closed too.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Batches of concentrators that are missing, and what was done about it."""
    async with base() as opened, opened.pool.connection() as connection:
        found = await batch_runs.gaps(connection, limit=limit, closed=closed)
    if as_json:
        print_json(
            [
                {
                    "concentrator": one.concentrator,
                    "run": one.run,
                    "gap": list(one.gap),
                    "missing": [list(span) for span in one.missing],
                    "lost": [list(span) for span in one.lost],
                    "noticed_at": one.noticed_at,
                    "requests": one.requests,
                    "next_request_at": one.next_request_at,
                    "closed_at": one.closed_at,
                }
                for one in found
            ]
        )
        return
    table = Table("concentrator", "run", "gap", "missing", "lost", "noticed", "requests", "next")
    for one in found:
        over = "closed" if one.closed_at else "given up"
        following = over if one.next_request_at is None else f"{one.next_request_at:%F %T}Z"
        table.add_row(
            one.concentrator, one.run, _spans([one.gap]), _spans(one.missing), _spans(one.lost),
            f"{one.noticed_at:%F %T}Z", str(one.requests), following,
        )  # fmt: skip
    out.print(table)


def _spans(spans: "list[batch_runs.Span] | tuple[batch_runs.Span, ...]") -> str:
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)
