"""What every language of meters gives: the one protocol behind which jobs, ingest and API see no difference.

::

    Drivers.of(meter) ──> Driver ──prepare──> Way ──open──> Conversation ──read_*──> ReadingBatch
     (by its model)        (one per language)  (one meter)   (permits held)           (the one currency)

A driver is made once and kept: it may remember what it learnt of meters. It holds no permit and decides
nothing about retries: that is `headend.links`, for all languages alike.

What programs need is in further protocols that a `Conversation` may fulfil, one for each kind and in its
words (`headend.drivers.commands`); whoever asks for one that a driver has not gets `LocalProtocolError`,
as for reads.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol, runtime_checkable
from zoneinfo import ZoneInfo

from protocols.errors import LocalProtocolError
from schemas.address import LinkAddress
from schemas.meter import Meter
from schemas.network import NOWHERE, Place
from schemas.reading import ReadingBatch


class Feature(StrEnum):
    """What can be asked of a meter of some model."""

    CURVES = "curves"
    REGISTERS = "registers"
    EVENTS = "events"
    BILLING = "billing"
    FORWARDS = "forwards"  # of a station: it keeps the load curves of its meters and hands them on
    DISTRIBUTES = "distributes"  # of a station: it takes one image for all its meters
    CLOCK = "clock"  # these and the following: programs of `schemas.program` can be applied
    LINE_CLOCK = "line_clock"  # beside CLOCK: it is told the time with all meters of its line, or not at all
    TARIFF = "tariff"
    FIRMWARE = "firmware"
    SWITCH = "switch"
    LIMIT = "limit"
    KEYS = "keys"
    PARAMETERS = "parameters"


class Recall(StrEnum):
    """Who keeps a load curve, and so when it can be had."""

    STORED = "stored"  # the meter keeps it: any range may be asked for, for as long as its memory goes back
    SAMPLED = "sampled"  # nobody does: a reading taken around the boundary counts for it, or it is lost
    PUSHED = "pushed"  # it comes by itself, and cannot be asked for


@dataclass(frozen=True, slots=True)
class Curve:
    """A load curve that the meters of a model deliver.

    Periods of a day and more begin at midnights of ``zone`` (None: UTC). ``tolerance_s`` is for sampled
    curves: a reading within so many seconds of a boundary counts for it. ``obis`` is the logical name of the
    object that keeps a stored one, ``entries`` how many rows fit its memory; None: not known.
    """

    number: int
    period_s: int
    recall: Recall
    zone: ZoneInfo | None = None
    tolerance_s: int = 0
    obis: str | None = None
    entries: int | None = None


class Refusal(NamedTuple):
    """What a meter would not give, or has not, and why; it gave other things."""

    obis: str
    attribute: int
    reason: str


class RegisterReadout(NamedTuple):
    """The values as a batch without rows, and what there is no value of. Nothing asked for is in neither."""

    batch: ReadingBatch
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """A meter that shall be reached, and where it stands in the network."""

    meter: Meter
    place: Place = NOWHERE


class Way(Protocol):
    """How one meter is reached. What else is in it is its driver's business."""

    @property
    def target(self) -> Target:
        """Which meter, and where."""

    @property
    def address(self) -> LinkAddress:
        """The link that is opened: for meters behind a concentrator, the concentrator's."""


class Conversation(Protocol):
    """An open conversation with one meter. One request at a time. Errors are those of `protocols.errors`."""

    @property
    def answers_s(self) -> Sequence[float]:
        """Seconds that the meter's answers took so far, in their order: what later deadlines are made of."""

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes sent and received so far, without framing; zeros where its language counts none."""

    async def read_load_curve(self, number: int, start: datetime, end: datetime) -> ReadingBatch:
        """Intervals of curve ``number`` that begin in [start, end), aware; coverage is claimed as answered.

        A sampled curve gives the one interval that ends at the boundary nearest to now, if that is near
        enough and within the range, else none; nothing beyond it is covered.

        Raises LocalProtocolError for a curve that the model has not, or times that are naive or reversed.
        """

    async def read_registers(self, obis: Sequence[str] = ()) -> RegisterReadout:
        """Values of these OBIS codes now; none given: those that the meter's model names."""

    async def read_events(self, since: datetime, until: datetime) -> ReadingBatch:
        """Events that the meter kept with a stamp in [since, until), aware, in a batch without rows.

        Empty where the model describes no event log.
        """


@runtime_checkable
class BillingConversation(Conversation, Protocol):
    """A conversation in a language with billing profiles (`Feature.BILLING`)."""

    async def read_billing(self, obis: str, since: datetime, until: datetime) -> RegisterReadout:
        """Registers per tariff and maximum demand as they were at the end of each billing period that ended
        in [since, until], aware; ``obis`` names the profile. A reading's ``read_us`` is its period's end.

        Raises DataAccessRefused where the meter has no such profile.
        """


class Driver(Protocol):
    """One language. ``name`` is what profiles call it in ``driver = "..."``; a language may have several
    names (``dlms`` and ``dlms-push``)."""

    @property
    def names(self) -> tuple[str, ...]:
        """The words for it in ``driver = "..."``."""

    def features(self, model: str) -> frozenset[Feature]:
        """What can be asked of meters of this model. Raises ModelError."""

    def curves(self, model: str) -> tuple[Curve, ...]:
        """The load curves of meters of this model. Raises ModelError."""

    async def prepare(self, targets: Sequence[Target]) -> dict[int, Way | LocalProtocolError]:
        """How each meter is reached, by its number, or what of its settings makes that impossible.

        Raises UnavailableError while the database is away, and SealError where a key cannot be opened.
        """

    def is_away(self, way: Way) -> bool:
        """Whether the meter can only be waited for now (it dials in and is not connected)."""

    def open(self, way: Way, *, answer_s: float | None = None) -> AbstractAsyncContextManager[Conversation]:
        """A conversation, open inside and closed behind; the permits of the way are the caller's to hold.

        ``answer_s`` is how long each answer is waited for; None: as the settings say.

        Raises the tree of `protocols.errors`.
        """
