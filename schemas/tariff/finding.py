"""One thing that is wrong with a tariff document.

An *error* makes the document useless. A *warning* is what its author should look at: it refuses nothing.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

#: Where something stands in the document: keys and places in lists, from 0.
Path = tuple[str | int, ...]


class Severity(StrEnum):
    """How bad it is."""

    ERROR = "error"
    WARNING = "warning"


class Finding(NamedTuple):
    """One thing that is wrong; ``line`` is known where the text is (`schemas.tariff.reading`)."""

    path: Path
    message: str
    severity: Severity = Severity.ERROR
    line: int | None = None

    @property
    def place(self) -> str:
        """The path as people write it: ``days[1].switches[0].from``."""
        text = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in self.path)
        return text.removeprefix(".")

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line is not None else ""
        mark = "" if self.severity is Severity.ERROR else "warning: "
        return f"{where}{mark}{self.place}: {self.message}"


def errors_in(findings: Sequence[Finding]) -> list[Finding]:
    """Those that are no mere warnings."""
    return [one for one in findings if one.severity is Severity.ERROR]


def warning(path: Path, message: str) -> Finding:
    """A finding that refuses nothing."""
    return Finding(path, message, Severity.WARNING)
