"""A conversation over what a meter tells as one whole: a readout, a telegram."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from headend.drivers.contract import Refusal, RegisterReadout
from headend.drivers.line_driver import Answers, LineWay, by_quantity
from headend.drivers.samples import Value, check_range, register, sample, wanted_boundary
from protocols.dlms.obis import Obis
from protocols.errors import LocalProtocolError
from schemas.event import MeterEvent
from schemas.reading import ReadingBatch, registers_only

log = logging.getLogger(__name__)

_VALUE: Final = 2


class Told(NamedTuple):
    """All that was told at once, and when it was here (aware). ``problems`` are pieces without a meaning."""

    at: datetime
    values: tuple[Value, ...]
    events: tuple[MeterEvent, ...] = ()
    problems: tuple[str, ...] = ()


class ToldConversation:
    """The `headend.drivers.contract.Conversation` of meters that tell everything at once.

    ``tell`` waits for the next whole. Registers, curve and events of one conversation come from one telling
    where they are asked for together.
    """

    def __init__(
        self,
        way: LineWay,
        tell: Callable[[], Awaitable[Told]],
        answers: Answers,
        now: Callable[[], datetime],
    ) -> None:
        self._way = way
        self._tell = tell
        self._answers = answers
        self._now = now
        self._meter_id = way.target.meter.meter_id
        self._last: Told | None = None

    @property
    def answers_s(self) -> Sequence[float]:
        """Seconds that the last tellings took."""
        return self._answers.seconds

    @property
    def traffic(self) -> tuple[int, int]:
        """Not counted."""
        return 0, 0

    async def read_load_curve(self, number: int, start: datetime, end: datetime) -> ReadingBatch:
        """The sample that counts for the boundary nearest to now.

        Raises LocalProtocolError for another number, naive or reversed times.
        """
        check_range(start, end)
        model = self._way.model
        if number != model.sampling.profile or not model.columns:
            raise LocalProtocolError(f"model {model.name} has no load curve {number}")
        boundary = wanted_boundary(self._now(), start, end, model.sampling)
        if boundary is None:
            return registers_only((), source=str(self._way))
        told = await self._next()
        return sample(
            self._meter_id,
            model.sampling,
            model.layout,
            boundary,
            told.at,
            by_quantity(model, told.values),
            source=str(self._way),
        )

    async def read_registers(self, obis: Sequence[str] = ()) -> RegisterReadout:
        """The values of these codes, or all. Raises LocalProtocolError for what is no OBIS code."""
        wanted = [_code(text) for text in obis]
        told = await self._whole()
        reads, refusals = [], []
        for value in told.values:
            if wanted and value.name not in wanted:
                continue
            if value.number is None and value.text is None:
                refusals.append(Refusal(value.name, _VALUE, "the meter has no value"))
            else:
                reads.append(register(self._meter_id, value, told.at))
        there = {value.name for value in told.values}
        refusals += [
            Refusal(name, _VALUE, "the meter does not tell it") for name in wanted if name not in there
        ]
        return RegisterReadout(registers_only(reads, source=str(self._way)), tuple(refusals))

    async def read_events(self, since: datetime, until: datetime) -> ReadingBatch:
        """Events that the whole tells of, with a stamp in [since, until)."""
        check_range(since, until)
        low, high = since.timestamp() * 1e6, until.timestamp() * 1e6
        told = await self._whole()
        events = [one for one in told.events if one.occurred_us is not None and low <= one.occurred_us < high]
        return registers_only((), source=str(self._way), events=events)

    async def _whole(self) -> Told:
        return await self._next() if self._last is None else self._last

    async def _next(self) -> Told:
        told = self._last = await self._tell()
        if told.problems:
            log.warning(
                "%s: %d pieces of what it told have no meaning, the first %s",
                self._way, len(told.problems), told.problems[0],
            )  # fmt: skip
        return told


def _code(text: str) -> str:
    try:
        return str(Obis.parse(text))
    except ValueError as error:
        raise LocalProtocolError(f"{text!r} is no OBIS code: {error}") from error
