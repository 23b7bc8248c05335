"""What processes cost: seconds of CPU and resident memory, with all their children, from /proc."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True)
class Cost:
    """``cpu_s`` of a process and all below it, ended ones included; resident bytes of the ``largest`` of them
    and of all together."""

    cpu_s: float = 0.0
    largest: int = 0
    resident: int = 0

    def since(self, before: "Cost") -> "Cost":
        """CPU since then; memory as it is now."""
        return Cost(self.cpu_s - before.cpu_s, self.largest, self.resident)

    def peak(self, other: "Cost") -> "Cost":
        """CPU of this, the higher memory of both."""
        return Cost(self.cpu_s, max(self.largest, other.largest), max(self.resident, other.resident))


def cost_of(*pids: int) -> Cost:
    """Of these processes and all below them. Those that are gone count nothing."""
    below = _children()
    waiting, seen = list(pids), set[int]()
    cpu, sizes = 0.0, []
    while waiting:
        pid = waiting.pop()
        if pid in seen:
            continue
        seen.add(pid)
        found = _stat(pid)
        if found is None:
            continue
        cpu += sum(found[11:15]) / _TICKS  # utime, stime, and those of children that were waited for
        sizes.append(found[21] * _PAGE)
        waiting += below.get(pid, ())
    return Cost(cpu, max(sizes, default=0), sum(sizes))


def parent_of(pid: int) -> int | None:
    """The process that started it; None where it cannot be seen from here."""
    found = _stat(pid)
    return None if found is None else found[1]


def children_of(pid: int) -> list[int]:
    """Processes that it started and that still run."""
    return _children().get(pid, [])


def is_running(pid: int) -> bool:
    """Whether there is such a process."""
    return _stat(pid) is not None


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (parent := parent_of(int(entry.name))) is not None:
            found.setdefault(parent, []).append(int(entry.name))
    return found


def _stat(pid: int) -> list[int] | None:
    """Fields 3 and on of /proc/PID/stat, the state as 0; None where there is none."""
    try:
        text = (_PROC / str(pid) / "stat").read_text("ascii", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name may hold anything
    return [0, *(int(field) for field in fields[1:40])]
