"""What a benchmark found, as ratios beside their marks: for people as a table, for scripts as JSON."""

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from headend.bench.worker import Round

_US: Final = 1e6


@dataclass(frozen=True, slots=True)
class Line:
    """One piece of work, ours beside a reference.

    ``ours`` and ``reference`` are medians in ``unit``; ``ratio`` is how many times better ours is, ``low``
    and ``high`` its extremes over rounds. ``mark`` is the least (of a memory: the most) that was promised,
    None where nothing was. ``note`` says what a reader must know.
    """

    work: str
    against: str
    ours: float
    reference: float | None
    unit: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    mark: float | None = None
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the mark holds; None without a mark, or where nothing could be compared."""
        if self.mark is None:
            return None
        if self.unit == "kB":
            return self.ours <= self.mark
        return None if self.ratio is None else self.ratio >= self.mark


@dataclass(frozen=True, slots=True)
class Report:
    """All lines of one run, with the machine that they were measured on."""

    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()
    machine: str = field(
        default_factory=lambda: (
            f"{os.cpu_count()} CPUs, {platform.machine()}, Python {platform.python_version()}, "
            f"load {os.getloadavg()[0]:.1f}"
        )
    )

    @property
    def holds(self) -> bool:
        """Whether no mark is missed. One that could not be compared is not missed, but told."""
        return all(line.holds is not False for line in self.lines)

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        lines = [{**asdict(line), "holds": line.holds} for line in self.lines]
        return {"machine": self.machine, "lines": lines, "notes": list(self.notes), "holds": self.holds}

    def table(self) -> Table:
        """For people."""
        table = Table(title=f"headend bench ({self.machine})", title_justify="left")
        table.add_column("work")
        table.add_column("against")
        for column in ("ours", "reference", "ratio (low..high)", "mark"):
            table.add_column(column, justify="right")
        table.add_column("holds")
        for line in self.lines:
            work = Text(line.work)
            if line.note:
                work.append(f"\n{line.note}", style="dim")
            table.add_row(work, line.against, *cells(line))
        return table


def cells(line: Line) -> tuple[str, str, str, str, str]:
    """A line's figures as texts: ours, reference, ratio, mark, holds."""
    ratio = "-"
    if line.ratio is not None:
        ratio = f"{_figure(line.ratio)} x"
        if line.low is not None and line.high is not None:
            ratio += f" ({_figure(line.low)}..{_figure(line.high)})"
    mark = "-"
    if line.mark is not None:
        mark = f"<= {line.mark:g} kB" if line.unit == "kB" else f">= {line.mark:g} x"
    verdict = {True: "yes", False: "NO", None: "-" if line.mark is None else "not compared"}[line.holds]
    reference = "-" if line.reference is None else f"{_figure(line.reference)} {line.unit}"
    return f"{_figure(line.ours)} {line.unit}", reference, ratio, mark, verdict


def _figure(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def cpu_us(rounds: Sequence[Round]) -> list[float]:
    """Microseconds of CPU for one piece of work, of each round."""
    return [_US * one["cpu_s"] / one["count"] for one in rounds]


def wall_us(rounds: Sequence[Round]) -> list[float]:
    """Microseconds of the clock for one piece of work, of each round."""
    return [_US * one["wall_s"] / one["count"] for one in rounds]


def compare(
    work: str,
    against: str,
    ours: Sequence[float],
    reference: Sequence[float],
    unit: str,
    mark: float | None,
    note: str = "",
) -> Line:
    """Costs of ours and of the reference, round by round, the n-th beside the n-th; less is better.

    The ratio is the median of the rounds' ratios: both costs of a round were measured side by side, so that
    a machine that is busy with something else for a while changes both of them.
    """
    each = [theirs / mine for mine, theirs in zip(ours, reference, strict=True)]
    own, other = statistics.median(ours), statistics.median(reference)
    return Line(work, against, own, other, unit, statistics.median(each), min(each), max(each), mark, note)
