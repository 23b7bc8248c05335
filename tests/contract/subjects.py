"""What the contract suite needs to know of a driver: a `Subject`, given by each ``subject_*.py`` beside this.

Such a module has ``SUBJECTS``: names with functions that give an asynchronous context manager of a `Subject`,
whose peers run inside (on loopback or a pseudo-terminal) and whose driver is closed behind. What a language
has not is None, and its tests are skipped.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from importlib import import_module
from pathlib import Path

from headend.drivers.contract import Driver, Target
from schemas.meter import Meter, MeterState
from schemas.network import NOWHERE, Place

_THEN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class CurveCase:
    """A load curve asked for in [start, end), and what must come: exact values by start and quantity.

    For a sampled curve the driver's clock is set to ``now`` by `Subject.set_now` first.
    """

    number: int
    start: datetime
    end: datetime
    rows: Mapping[datetime, Mapping[str, Decimal]]
    now: datetime | None = None


@dataclass(frozen=True)
class Subject:
    """A driver with its peers.

    ``values`` are what the codes of ``target`` must give, exactly; ``absent`` is a code that it has not.
    ``silent`` takes the connection and never answers, ``closed`` has nobody at its address, ``garbage``
    answers with rubbish. ``impossible`` have settings that cannot work. ``links`` counts open connections to
    the peers, of which the driver may keep ``kept`` when no conversation is open.
    """

    driver: Driver
    target: Target
    values: Mapping[str, Decimal | str]
    absent: str
    silent: Target | None = None
    closed: Target | None = None
    garbage: Target | None = None
    impossible: Sequence[Target] = ()
    curve: CurveCase | None = None
    set_now: Callable[[datetime], None] | None = None
    links: Callable[[], int] | None = None
    kept: int = 0
    push_models: Sequence[str] = field(default=())

    @property
    def model(self) -> str:
        """The model of ``target``."""
        return self.target.meter.model


Make = Callable[[], AbstractAsyncContextManager[Subject]]


def meter(number: int, model: str, address: str | None, place: Place = NOWHERE) -> Target:
    """A commissioned meter of that number."""
    state = MeterState.COMMISSIONED
    one = Meter(number, f"M{number:04}", model, None, None, address, None, None, state, _THEN, _THEN, _THEN)
    return Target(one, place)


def subjects() -> dict[str, Make]:
    """All subjects, by name."""
    found: dict[str, Make] = {}
    for path in sorted(Path(__file__).parent.glob("subject_*.py")):
        found |= import_module(f"tests.contract.{path.stem}").SUBJECTS
    return found
