"""The parts of the benchmark, and a run of some or all of them."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Final

import uvloop

from headend.bench import concentrator, store
from headend.bench import mqtt as broker
from headend.bench.meter import KEYS, MAX_PDU
from headend.bench.processes import BenchError, Process, meter, modbus_client, modbus_slaves, ours, peers
from headend.bench.report import Line, Report, compare, cpu_us, wall_us
from headend.bench.worker import Round

Say = Callable[[str], None]

_GURUX: Final = "gurux-dlms"
_COSEM: Final = "dlms-cosem"
_MOST_KB: Final = 30.0
_COPY_SHARE: Final = 0.8
_BATCH_SHARE: Final = 0.6
_TASMOTA_SHARE: Final = 0.4
_POLL: Final = 0.8
#: At most 1.15 times as long, as a ratio of better.
_DEAD: Final = 0.87
_BUS_ROUNDS: Final = 2
_SLICES: Final = 5


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured.

    ``rounds`` of ``seconds`` of CPU for each client, ``stores`` rounds of ``batches`` batches stored in each
    way, so many ``associations`` at once, and so many ``messages`` of a broker in each of ``rounds``.
    """

    rounds: int
    seconds: float
    stores: int
    batches: int
    associations: int
    messages: int = 10_000


FULL: Final = Effort(rounds=7, seconds=1.5, stores=9, batches=4, associations=10_000)
QUICK: Final = Effort(rounds=2, seconds=0.3, stores=1, batches=1, associations=500, messages=1_000)


class _Peers:
    """The peers that are installed, started once for all parts."""

    def __init__(self, stack: ExitStack) -> None:
        self.found: dict[str, Process] = {}
        self.missing: list[str] = []
        for name, process in peers().items():
            if process is None:
                self.missing.append(name)
            else:
                self.found[name] = stack.enter_context(process)


def _take_turns(
    clients: Mapping[str, tuple[Process, str, Mapping[str, Any]]], effort: Effort
) -> dict[str, list[Round]]:
    """Rounds of each client, in turns, the order reversed each time; all must have read the same values."""
    rounds: dict[str, list[Round]] = {name: [] for name in clients}
    for number in range(effort.rounds):
        names = list(clients)
        for name in names if number % 2 == 0 else reversed(names):
            process, work, arguments = clients[name]
            rounds[name].append(process.round(work, effort.seconds, **arguments))
    values = {one["fingerprint"] for of_one in rounds.values() for one in of_one}
    if len(values) != 1:
        raise BenchError(f"the clients did not read the same values: {', '.join(clients)}")
    return rounds


def _lines(
    work: str, rounds: Mapping[str, Sequence[Round]], marks: Mapping[str, float | None], note: str = ""
) -> list[Line]:
    """Ours against each peer of ``marks`` that took part, and alone where none did."""
    mine = cpu_us(rounds["ours"])
    return [
        compare(work, name, mine, cpu_us(rounds[name]), "us CPU", mark, note)
        if name in rounds
        else Line(work, name, statistics.median(mine), None, "us CPU", mark=mark, note="peer not installed")
        for name, mark in marks.items()
    ]


def decode(effort: Effort, say: Say) -> list[Line]:
    """Decoding a load-profile day of 96 rows: alone, as one of a thousand, and with stamps never seen."""
    with ExitStack() as stack:
        mine = stack.enter_context(ours())
        theirs = _Peers(stack)
        clients: dict[str, tuple[Process, str, Mapping[str, Any]]] = {
            "ours": (mine, "decode", {}),
            "batch": (mine, "decode-batch", {}),
            "cold": (mine, "decode-cold", {}),
            **{name: (process, "decode", {}) for name, process in theirs.found.items()},
        }
        say("decoding")
        rounds = _take_turns(clients, effort)
    one = _lines("decode one profile of 96 rows", rounds, {_GURUX: 200.0, _COSEM: None})
    batch = _lines(
        "decode a batch of 1,000, each profile", {**rounds, "ours": rounds["batch"]}, {_GURUX: 250.0}
    )
    cold = _lines(
        "decode one, its stamps never seen before", {**rounds, "ours": rounds["cold"]}, {_GURUX: None}
    )
    return [*one, *batch, *cold]


def session(effort: Effort, say: Say) -> list[Line]:
    """Whole read sessions: connect, associate, GET by range, release, close, decode."""
    with ExitStack() as stack:
        field = stack.enter_context(meter())
        mine = stack.enter_context(ours())
        theirs = _Peers(stack)
        plain = {"ports": field.hello["plain"]}
        ciphered = {"ports": field.hello["ciphered"], "keys": KEYS, "max_pdu": MAX_PDU}
        lines = []
        for title, work, arguments, marks, note in (
            ("whole session, no ciphering", "session", plain, {_GURUX: 10.0, _COSEM: 6.0}, ""),
            (
                "whole session, HLS-GMAC, ciphered",
                "ciphered-session",
                ciphered,
                {_GURUX: 30.0, _COSEM: 6.0},
                "authenticated and encrypted, PDU 1,024, in blocks",
            ),
        ):
            say(title)
            clients = {
                name: (process, work, arguments) for name, process in {"ours": mine, **theirs.found}.items()
            }
            lines += _lines(title, _take_turns(clients, effort), marks, note)
        return lines


def storing(effort: Effort, say: Say) -> list[Line]:
    """Storing new intervals beside a bare COPY BINARY."""
    say("storing")
    where, rounds = uvloop.run(store.measure(effort.stores, effort.batches))
    per_row = 1e6 / (store.BATCH_ROWS * effort.batches)
    bare = [per_row * sum(one.bare) for one in rounds]
    writer = [per_row * sum(one.writer) for one in rounds]
    pipeline = [per_row * sum(one.pipeline) for one in rounds]
    works: list[tuple[str, list[float], float | None]] = [
        ("store new intervals, a day of 1,000 meters a batch", writer, _COPY_SHARE),
        ("the same rows by the ingest pipeline, meter by meter", pipeline, None),
    ]
    return [compare(work, "bare COPY BINARY", own, bare, "us/row", mark, where) for work, own, mark in works]


def associations(effort: Effort, say: Say) -> list[Line]:
    """Many associations open at once in one process, and what each costs in resident memory."""
    lines = []
    count = effort.associations
    for title, ciphered in (("ciphered (HLS-GMAC)", True), ("without ciphering", False)):
        say(f"{count:,} associations, {title}")
        with meter() as field, ours() as mine:
            found = mine.ask(
                "associations",
                count=count,
                ports=field.hello["ciphered" if ciphered else "plain"],
                keys=KEYS if ciphered else None,
                max_pdu=MAX_PDU,
            )
        if found["open"] != count or found["released"] != count:
            raise BenchError(f"{found['open']} of {count} associations were open")
        note = f"growth of resident memory; opened in {found['opened_s']:.1f} s"
        work = f"{count:,} associations open at once, each, {title}"
        lines.append(Line(work, "-", found["bytes_each"] / 1000, None, "kB", mark=_MOST_KB, note=note))
    return lines


def modbus(effort: Effort, say: Say) -> list[Line]:
    """Polls of Modbus slaves by our driver beside bare pymodbus calls for the same registers, both on the
    clock; and a bus of which a tenth is dead."""
    lines = []
    # Many short rounds: what is compared is the clock, which anything else on the machine disturbs.
    effort = replace(effort, rounds=effort.rounds * _SLICES, seconds=effort.seconds / _SLICES)
    with modbus_slaves() as slaves, modbus_client() as client:
        for scheme, port in (("modbus+tcp", "tcp"), ("modbus+rtu+tcp", "rtu")):
            for what, title in (
                ("registers", "all coded registers, 4 requests"),
                ("sample", "a sample, 1 request"),
            ):
                say(f"{scheme}, {title}")
                where = {"scheme": scheme, "what": what, "port": slaves.hello[port]}
                rounds = _take_turns(
                    {name: (client, name, where) for name in ("ours", "bare", "converted")}, effort
                )
                mine, work = wall_us(rounds["ours"]), f"Modbus poll of an SDM630: {title}, {scheme}"
                for name, against, mark in (
                    ("bare", "bare pymodbus calls", _POLL),
                    ("converted", "the same, to Python floats", None),
                ):
                    lines.append(compare(work, against, mine, wall_us(rounds[name]), "us", mark))
        lines.append(_dead_tenth(client, slaves.hello["rtu"], effort, say))
    return lines


def _dead_tenth(client: Process, port: int, effort: Effort, say: Say) -> Line:
    """Rounds over a healthy bus and over one with two dead of twenty, by turns, after the first of each."""
    say("a Modbus bus with dead slaves")
    found = client.ask("bus", dead=2, port=port, rounds=1 + _BUS_ROUNDS * effort.rounds)
    # whole seconds, not medians: a time-out in any round shall weigh what it takes
    dead, healthy = (1e6 * sum(found[name][1:]) / (len(found[name]) - 1) for name in ("dead", "healthy"))
    return Line(
        "a round over a Modbus bus of 20, 2 of them dead, after the first",
        "a healthy bus",
        dead,
        healthy,
        "us",
        healthy / dead,
        mark=_DEAD,
        note=f"the first one, with the time-outs, took {found['dead'][0]:.1f} s",
    )


def concentrators(effort: Effort, say: Say) -> list[Line]:
    """A round of a concentrator that stores and forwards; one with dead meters beside a healthy one."""
    say("concentrators")
    stored = max(5, effort.associations // 20)
    found = uvloop.run(concentrator.measure(stored, 40, effort.rounds))
    return [
        Line(
            f"a concentrator's {found.rows:,} rows of {stored} meters, fetched, committed, released",
            "-",
            1e6 * found.round_s / found.rows,
            None,
            "us/row",
            note=f"wall time of the round: {found.rows / found.round_s:,.0f} rows/s, {found.where}",
        ),
        compare(
            "collection through a concentrator with 10 % dead meters, after the first",
            "a healthy one",
            [sum(found.dead_s)],
            [sum(found.healthy_s)],
            "s",
            _DEAD,
            f"{effort.rounds} collections of 40 meters each; at most 1.15 times the time",
        ),
    ]


def mqtt(effort: Effort, say: Say) -> list[Line]:
    """From a broker to committed rows, one worker, beside a bare paho consumer that only parses the JSON."""
    lines = []
    for kind, title, share, mark in (
        ("batch", "MQTT to committed rows, a batch of 100 readings (25 meters x 4)", 5, _BATCH_SHARE),
        ("tasmota", "MQTT to a committed row, a one-reading Tasmota message", 1, _TASMOTA_SHARE),
    ):
        say(title)
        where, turns = uvloop.run(broker.measure(kind, effort.rounds, effort.messages // share))
        cpu = {who: statistics.median(turn.cpu_us for turn in of_one) for who, of_one in turns.items()}
        note = f"{where}; CPU of the consumer {cpu['ours']:.0f} us, of the bare one {cpu['bare']:.0f} us"
        wall = {who: [turn.wall_us for turn in of_one] for who, of_one in turns.items()}
        lines.append(compare(title, "bare paho", wall["ours"], wall["bare"], "us", mark, note))
    return lines


#: The parts by the names that ``--only`` takes.
PARTS: Final[Mapping[str, Callable[[Effort, Say], list[Line]]]] = {
    "decode": decode,
    "session": session,
    "store": storing,
    "associations": associations,
    "modbus": modbus,
    "concentrators": concentrators,
    "mqtt": mqtt,
}


def run(only: Sequence[str], effort: Effort, say: Say) -> Report:
    """Run these parts, in their order. Raises BenchError, and DatabaseError without a database."""
    lines = [line for name in only for line in PARTS[name](effort, say)]
    notes = []
    missing = {line.against for line in lines if line.note == "peer not installed"}
    if missing:
        notes.append(
            f"{', '.join(sorted(missing))} not installed: run `make bench`, which installs the peers"
        )
    return Report(tuple(lines), tuple(notes))
