"""What the night came to: marks beside figures, costs by process, for people and for scripts."""

import os
import platform
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from rich.console import Group
from rich.table import Table

from headend.bench.night.run import HEADEND, QUANTITIES, Found
from headend.bench.night.service import Night

_GOAL_S: Final = 120.0
_LANDING_S: Final = 300.0
_COUNTY: Final = 154_000
_CPU_MS: Final = 0.6
_MEMORY: Final = 1 << 30
_MOMENT_MS: Final = 200.0
_TIMES: Final = {"dlms-cosem": 4.0, "gurux-dlms": 20.0}


@dataclass(frozen=True, slots=True)
class Mark:
    """One promise: what was measured, what was promised (both as words), and whether it holds; None: it is
    not for a run like this one."""

    work: str
    measured: str
    mark: str
    holds: bool | None


def marks(found: Found) -> list[Mark]:
    """The marks of the night that this run can tell of."""
    night = found.night
    is_county = found.plan.meters >= _COUNTY and found.plan.scenario == "direct"
    told = [
        Mark(
            f"the night: {night.meters:,} meters, {night.rows:,} intervals, "
            f"{night.rows * QUANTITIES:,} values",
            f"{night.wall_s:.0f} s ({night.rows / night.wall_s:,.0f} rows/s)",
            f"goal {_GOAL_S:.0f} s, at most {_LANDING_S:.0f} s",
            night.wall_s <= _LANDING_S if is_county else None,
        ),
        Mark(
            "head-end CPU for each meter",
            f"{night.cpu_ms(*HEADEND):.3f} ms",
            f"<= {_CPU_MS} ms",
            night.cpu_ms(*HEADEND) <= _CPU_MS,
        ),
        Mark(
            "memory of the largest worker",
            _megabytes(night.costs["worker"].largest),
            "< 1 GiB",
            night.costs["worker"].largest < _MEMORY,
        ),
    ]
    base, p95 = found.idle.percentile(50), night.reads.percentile(95)
    if base is not None and p95 is not None:
        beyond = p95 - base
        told.append(
            Mark(
                f"{len(night.reads.times_ms)} reads now of direct meters meanwhile, "
                f"p95 beyond {base:.0f} ms when idle",
                f"{beyond:.0f} ms ({night.reads.failed} failed)",
                f"< {_MOMENT_MS:.0f} ms",
                beyond < _MOMENT_MS and not night.reads.failed,
            )
        )
    each_s = night.wall_s / max(1, night.meters)
    cpu_s = night.cpu_ms(*HEADEND) / 1000
    for peer in found.peers:
        times = peer.wall_s / peer.meters / each_s
        told.append(
            Mark(
                f"{peer.name} + executemany, {peer.meters:,} of the same meters"
                + ("" if peer.is_equal else " (ITS VALUES ARE NOT OURS)"),
                f"{times:.1f} x our clock, {peer.cpu_s / peer.meters / cpu_s:.1f} x our CPU "
                f"({1000 * peer.wall_s / peer.meters:.2f} ms a meter, "
                f"CPU {1000 * peer.cpu_s / peer.meters:.2f} ms)",
                f">= {_TIMES[peer.name]:g} x",
                times >= _TIMES[peer.name] and peer.is_equal,
            )
        )
    if found.plan.scenario != "direct":  # the marks are for that one
        return [replace(mark, mark="-", holds=None) for mark in told]
    return told


def rendered(found: Found) -> Group:
    """For people."""
    table = Table(title=f"headend bench night ({_machine()}; {found.where})", title_justify="left")
    table.add_column("work")
    table.add_column("measured")
    table.add_column("mark")
    table.add_column("holds")
    for mark in marks(found):
        verdict = {True: "yes", False: "NO", None: "-"}[mark.holds]
        table.add_row(mark.work, mark.measured, mark.mark, verdict)
    costs = Table(title="CPU by process", title_justify="left")
    costs.add_column("night")
    for column in ("wall", "plan", "unread", *found.night.costs, "a meter"):
        costs.add_column(column, justify="right")
    for name, night in (("first (meters new)", found.first), ("the night", found.night)):
        costs.add_row(
            name,
            f"{night.wall_s:.1f} s",
            f"{night.plan_s:.1f} s",
            f"{night.counts.total - night.counts.done:,}",
            *(f"{cost.cpu_s:.1f} s" for cost in night.costs.values()),
            f"{night.cpu_ms(*night.costs):.3f} ms",
        )
    memory = ", ".join(f"{kind} {_megabytes(cost.resident)}" for kind, cost in found.night.costs.items())
    notes = (
        f"memory: {memory}; database {_megabytes(found.database_bytes)} with two days; "
        f"simulator ready in {found.ready_s:.0f} s, county imported in {found.import_s:.0f} s"
    )
    missing = f"not compared: {', '.join(found.not_installed)}" if found.not_installed else ""
    return Group(table, costs, notes, *([missing] if missing else []))


def as_json(found: Found) -> dict[str, Any]:
    """For scripts."""
    return {
        "machine": _machine(),
        "where": found.where,
        "plan": {**asdict(found.plan), "settings": dict(found.plan.settings)},
        "marks": [asdict(mark) for mark in marks(found)],
        "first": _night(found.first),
        "night": _night(found.night),
        "idle_ms": {"p50": found.idle.percentile(50), "p95": found.idle.percentile(95)},
        "database_bytes": found.database_bytes,
        "import_s": found.import_s,
        "peers": [asdict(peer) for peer in found.peers],
        "not_installed": list(found.not_installed),
    }


def _night(night: Night) -> dict[str, Any]:
    return {
        "wall_s": night.wall_s,
        "plan_s": night.plan_s,
        "counts": asdict(night.counts),
        "rows": night.rows,
        "cpu_s": {kind: cost.cpu_s for kind, cost in night.costs.items()},
        "largest_bytes": {kind: cost.largest for kind, cost in night.costs.items()},
        "headend_cpu_ms": night.cpu_ms(*HEADEND),
        "reads_ms": {f"p{share}": night.reads.percentile(share) for share in (50, 95, 99)},
        "reads": len(night.reads.times_ms),
        "reads_failed": night.reads.failed,
    }


def _megabytes(number: int) -> str:
    return f"{number / (1 << 20):,.0f} MiB"


def _machine() -> str:
    return (
        f"{os.cpu_count()} CPUs, {platform.machine()}, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f}"
    )
