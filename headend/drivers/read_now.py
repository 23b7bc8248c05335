"""Reading one meter now: what the API's POST and the command line's ``read`` do, as one function."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from headend.drivers.dlms.profile_check import profile_of
from headend.drivers.dlms.reader import DlmsReader
from headend.session.access import Access
from headend.session.client import MeterSession, Stage
from headend.store.writer import Written
from headend.transport.stream import Stream
from protocols.errors import CommunicationError, DataAccessRefused, LinkTimeout, LocalProtocolError
from schemas.meter import Meter
from schemas.model import MeterModel
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


class ReadFailed(Exception):
    """The exchange failed; nothing is stored. ``cause`` says whose fault, ``stage`` how far it came."""

    def __init__(self, stage: str, cause: CommunicationError) -> None:
        super().__init__(f"{stage}: {cause}")
        self.stage = stage
        self.cause = cause


class UnknownProfileError(ValueError):
    """The meter's model has no load profile of that number; the message names those it has."""


async def read_now(
    access: Access,
    driver: DlmsReader,
    write: Write,
    meter: Meter,
    *,
    obis: tuple[str, ...] = (),
    curve: CurveRange | None = None,
    stream: Stream | None = None,
    timeout_s: float = PATIENCE_S,
) -> ReadOutcome:
    """Read registers, a range of a load profile, or both, in one session, and store them in one transaction.

    Without both, the registers that the meter's model names are read. ``write`` is
    `headend.store.writer.write` with its pool, ``stream`` the open link of a meter that dialled in.
    ``timeout_s`` bounds the exchange.

    Raises UnknownProfileError before the meter is called; ReadFailed; what `Access.prepare` raises of the
    database and the keys; and what ``write`` raises.
    """
    batches: list[ReadingBatch] = []
    refused: list[Refused] = []
    stage = "prepare"
    try:
        async with asyncio.timeout(timeout_s):
            reach = await access.prepare_one(meter)
            if curve is not None:
                _check_profile(reach.model, curve.profile)
            stage = Stage.CONNECT
            async with access.link(reach), access.session(reach, stream=stream) as session:
                stage = Stage.READ
                await _read(session, driver, meter, reach.model, obis, curve, batches, refused)
                stage = Stage.RELEASE
    except CommunicationError as exc:
        raise ReadFailed(exc.stage or stage, exc) from exc
    except TimeoutError as exc:
        late = LinkTimeout(f"meter {meter.asset_id}: not read within {timeout_s:g} s")
        raise ReadFailed(stage, late) from exc
    batch = concatenate(batches, source=batches[0].source)
    return ReadOutcome(batch, tuple(refused), await write(batch))


def _check_profile(model: MeterModel, number: int) -> None:
    try:
        profile_of(model, number)
    except LocalProtocolError as error:
        raise UnknownProfileError(error.reason) from error


async def _read(
    session: MeterSession,
    driver: DlmsReader,
    meter: Meter,
    model: MeterModel,
    obis: tuple[str, ...],
    curve: CurveRange | None,
    batches: list[ReadingBatch],
    refused: list[Refused],
) -> None:
    if curve is not None:
        try:
            batches.append(
                await driver.read_load_curve(
                    session, meter.meter_id, model, curve.profile, curve.start, curve.end
                )
            )
        except DataAccessRefused as exc:
            if not obis:
                raise
            refused.append(Refused(profile_of(model, curve.profile).obis, exc.reason))
    if obis or curve is None:
        readout = await driver.read_registers(session, meter.meter_id, model, obis)
        batches.append(readout.batch)
        refused += [Refused(refusal.obis, refusal.reason) for refusal in readout.refusals]
