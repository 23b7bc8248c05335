"""Reading one meter now: what the API's POST and the command line's ``read`` do, as one function."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from headend.drivers.contract import Conversation, Curve, Driver, Target
from headend.drivers.registry import Drivers
from headend.links.links import Links
from headend.links.permits import Urgency
from headend.store.writer import Written
from protocols.errors import DataAccessRefused, LinkTimeout
from schemas.reading import ReadingBatch, RegisterRead, concatenate

Write = Callable[[ReadingBatch], Awaitable[Written]]

#: Seconds that a person waits for one meter, waiting for its link included.
PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class CurveRange:
    """Intervals of one load profile that begin in [start, end), aware."""

    profile: int
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Refused:
    """What the meter would not give while it gave other things, and why."""

    obis: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReadOutcome:
    """What a meter gave and what storing it did. ``batch`` holds all of it, also the intervals."""

    batch: ReadingBatch
    refused: tuple[Refused, ...]
    stored: Written

    @property
    def registers(self) -> tuple[RegisterRead, ...]:
        """The single values that were read."""
        return self.batch.registers

    @property
    def intervals(self) -> int:
        """Rows that the load profile gave."""
        return len(self.batch)


class UnknownProfileError(ValueError):
    """The meter's model has no load profile of that number; the message names those it has."""


async def read_now(
    drivers: Drivers,
    links: Links,
    write: Write,
    target: Target,
    *,
    obis: tuple[str, ...] = (),
    curve: CurveRange | None = None,
    timeout_s: float = PATIENCE_S,
) -> ReadOutcome:
    """Read registers, a range of a load profile, or both, in one conversation, and store them in one
    transaction.

    Without both, the registers that the meter's model names are read. ``write`` is
    `headend.store.writer.write` with its pool. ``timeout_s`` bounds the exchange.

    Nothing is stored where the conversation fails. An open breaker is no hindrance: a person wants to know.

    Raises UnknownProfileError before the meter is called; the tree of `protocols.errors`; what
    `Drivers.prepare` raises of the database and the keys; and what ``write`` raises.
    """
    batches: list[ReadingBatch] = []
    refused: list[Refused] = []
    try:
        async with asyncio.timeout(timeout_s):
            driver, way = await drivers.prepare_one(target)
            known = None if curve is None else _curve(driver, target.meter.model, curve.profile)
            async with links.conversation(driver, way, urgency=Urgency.ON_DEMAND, force=True) as conversation:
                await _read(conversation, obis, curve, known, batches, refused)
    except TimeoutError as exc:
        raise LinkTimeout(f"meter {target.meter.asset_id}: not read within {timeout_s:g} s") from exc
    batch = concatenate(batches, source=batches[0].source)
    return ReadOutcome(batch, tuple(refused), await write(batch))


def _curve(driver: Driver, model: str, number: int) -> Curve:
    curves = {curve.number: curve for curve in driver.curves(model)}
    if number not in curves:
        known = ", ".join(map(str, curves)) or "none"
        raise UnknownProfileError(f"model {model} has no load profile {number}; known: {known}")
    return curves[number]


async def _read(
    conversation: Conversation,
    obis: tuple[str, ...],
    asked: CurveRange | None,
    curve: Curve | None,
    batches: list[ReadingBatch],
    refused: list[Refused],
) -> None:
    if asked is not None and curve is not None:
        try:
            batches.append(await conversation.read_load_curve(curve.number, asked.start, asked.end))
        except DataAccessRefused as exc:
            if not obis:
                raise
            refused.append(Refused(curve.obis or f"load profile {curve.number}", exc.reason))
    if obis or asked is None:
        readout = await conversation.read_registers(obis)
        batches.append(readout.batch)
        refused += [Refused(refusal.obis, refusal.reason) for refusal in readout.refusals]
