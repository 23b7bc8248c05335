"""What the drivers of DL/T 645, IEC 62056-21 and P1 have in common: models, ways, curves."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from headend.clock import utc_now
from headend.drivers.contract import Conversation, Curve, Feature, Recall, Target, Way
from headend.drivers.samples import Value
from headend.drivers.ways import settled, to_each
from protocols.errors import LinkTimeout, LocalProtocolError
from schemas.address import LinkAddress, Scheme
from schemas.line_model import LineModel, load_line_model
from schemas.register_model import Sampling

#: Answers whose times are remembered in a conversation.
_ANSWERS: Final = 32


@dataclass(frozen=True, slots=True)
class LineTiming:
    """Seconds: ``connect_s`` for a connection, ``answer_s`` for an answer where nobody says better,
    ``quiet_s`` of silence before a line is asked."""

    connect_s: float = 10.0
    answer_s: float = 5.0
    quiet_s: float = 0.1


@dataclass(frozen=True, slots=True)
class LineWay:
    """How one meter on a line is reached: the `headend.drivers.contract.Way` of these languages."""

    target: Target
    address: LinkAddress
    model: LineModel

    def __str__(self) -> str:
        return str(self.address)


class LineDriver:
    """The part of a `headend.drivers.contract.Driver` that is the same in all; ``open`` is the language's.

    Args:
        profile_folders: where models are looked for before the packaged ones.
        sampling: how meters are sampled, where their model does not say it.
        timing: of every conversation.
        now: aware, UTC.
    """

    language: str
    schemes: frozenset[Scheme]
    timing = LineTiming()

    def __init__(
        self,
        *,
        profile_folders: tuple[Path, ...] = (),
        sampling: Sampling | None = None,
        timing: LineTiming | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._folders = profile_folders
        self._sampling = Sampling() if sampling is None else sampling
        self._timing = self.timing if timing is None else timing
        self._now = now

    @property
    def names(self) -> tuple[str, ...]:
        """What profiles call it."""
        return (self.language,)

    def features(self, model: str) -> frozenset[Feature]:
        """What can be asked of meters of this model. Raises ModelError."""
        found = self._model(model)
        can = {Feature.REGISTERS, Feature.EVENTS}
        return frozenset(can | {Feature.CURVES} if found.columns else can)

    def curves(self, model: str) -> tuple[Curve, ...]:
        """A sampled curve, and the one that the meter keeps, as far as the model has columns for them.
        Raises ModelError."""
        found = self._model(model)
        if not found.columns:
            return ()
        sampled, kept = found.sampling, found.load_records
        curves = [Curve(sampled.profile, sampled.period_s, Recall.SAMPLED, tolerance_s=sampled.tolerance_s)]
        if kept is not None:
            curves = [Curve(kept.profile, kept.period_s, Recall.STORED, found.tz)]
        return tuple(curves)

    async def prepare(self, targets: Sequence[Target]) -> dict[int, Way | LocalProtocolError]:
        """The line of each."""
        return to_each(targets, self._way)

    def is_away(self, way: Way) -> bool:
        """Never: such meters wait to be asked, or tell all the time."""
        return False

    def open(self, way: Way, *, answer_s: float | None = None) -> AbstractAsyncContextManager[Conversation]:
        """A conversation with the meter. Raises the tree of `protocols.errors`."""
        raise NotImplementedError

    def _model(self, name: str) -> LineModel:
        model = load_line_model(name, self._folders, language=self.language)
        said = model.sampling.model_dump(include=model.sampling.model_fields_set)
        sampling = Sampling.model_validate({**self._sampling.model_dump(), **said})
        return model.model_copy(update={"sampling": sampling})

    def _way(self, target: Target) -> LineWay:
        """Raises LocalProtocolError, saying what of the meter's settings to change."""
        meter = target.meter
        model, address = settled(target, self._model)
        if address.scheme not in self.schemes:
            known = ", ".join(sorted(self.schemes))
            raise LocalProtocolError(
                f"{meter.asset_id}: {self.language} is not spoken over {address.scheme}:, but over {known}"
            )
        return LineWay(target, address, model)


def way_of(way: Way) -> LineWay:
    """Raises TypeError for a way of another language."""
    if not isinstance(way, LineWay):
        raise TypeError(f"a way of a line is a LineWay, not a {type(way).__name__}")
    return way


class Answers:
    """Times that answers took."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._asked = 0.0
        self.seconds: deque[float] = deque(maxlen=_ANSWERS)

    def asked(self) -> None:
        """A request went out."""
        self._asked = self._loop.time()

    def came(self) -> None:
        """Its answer is here."""
        self.seconds.append(self._loop.time() - self._asked)


def by_quantity(model: LineModel, values: Sequence[Value]) -> dict[str, Value]:
    """What fills each column: the value that it names, or the sum of several, where all of them are there."""
    numbers = {value.name: value for value in values if value.number is not None}
    found: dict[str, Value] = {}
    for quantity, column in model.columns.items():
        parts = [numbers[name] for name in column.values if name in numbers]
        if len(parts) != len(column.values) or len({part.unit for part in parts}) != 1:
            continue
        total = parts[0].number
        for part in parts[1:]:
            if total is not None and part.number is not None:
                total += part.number
        found[quantity] = Value(column.obis, total, None, parts[0].unit, parts[0].meter_time)
    return found


def silent(what: str, seconds: float) -> LinkTimeout:
    """That nobody answered."""
    return LinkTimeout(f"{what}: no answer within {seconds:g} s")
