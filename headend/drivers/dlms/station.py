"""Concentrators that store their meters' load curves and forward them, by `protocols.dlms.store_forward`.

To `headend.links` such a concentrator is a device as a meter is: it has an address, keys and permits. What
can be asked of it is not what can be asked of a meter: its directory, kept curves of many meters at once,
that it may overwrite what we have, and where its model says so, that it hands an image on to its meters.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from headend.drivers.commands.clock import ClockConversation
from headend.drivers.commands.firmware import Distributing
from headend.drivers.commands.keys import KeysConversation
from headend.drivers.contract import Conversation, Curve, Feature, RegisterReadout, Target, Way
from headend.drivers.dlms.commands.clock import ClockCommands
from headend.drivers.dlms.commands.firmware import DistributionCommands
from headend.drivers.dlms.commands.keys import KeysCommands
from headend.drivers.dlms.intervals import ProfileShape, to_batch
from headend.drivers.dlms.profile_check import ProfileFacts, Scaling, Shapes, profile_of, refused
from headend.session.access import Access, Reach
from headend.session.client import MeterSession
from protocols.dlms import axdr, store_forward
from protocols.dlms.apdu.fields import AttributeItem, Selection
from protocols.dlms.cosem import BY_RANGE, PROFILE_BUFFER, Attribute, ClassId, RangeDescriptor
from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.enums import DataAccessResult
from protocols.dlms.profile_buffer import decode_buffer
from protocols.dlms.store_forward import Entry, Kept, Layout, Release
from protocols.errors import CommunicationError, LocalProtocolError, RemoteProtocolError
from schemas.model import MeterModel, load_model
from schemas.reading import Fragment, ReadingBatch

STATION: Final = "dlms-station"
#: Bytes of a directory: some thousands of meters. Reading more at once would hold everybody up.
MOST_DIRECTORY: Final = 1024 * 1024
#: How long a block of a bulk answer may take, in seconds: it is put together of many meters' rows, and the
#: answers before it, to short questions, tell nothing about that.
BULK_S: Final = 60.0
_SECOND: Final = timedelta(seconds=1)
_ALWAYS: Final = frozenset({Feature.FORWARDS, Feature.CLOCK})


@dataclass(frozen=True, slots=True)
class Ask:
    """Rows of one meter's kept profile with stamps after ``since`` up to and with ``until``, aware.

    ``model`` is the meter's own: it says what the columns mean and how its clock is read.
    """

    meter_id: int
    model: MeterModel
    slot: int
    kept: Kept
    since: datetime
    until: datetime


class Answer(NamedTuple):
    """What came of an `Ask`: the rows, covered as far as they follow one another, or why there are none."""

    ask: Ask
    result: ReadingBatch | CommunicationError


class StationDriver:
    """The `headend.drivers.contract.Driver` of such concentrators: nothing that is asked of a meter."""

    names = (STATION,)

    def __init__(self, access: Access, *, profile_folders: tuple[Path, ...] = ()) -> None:
        self._access = access
        self._folders = profile_folders
        self._shapes = Shapes()

    def features(self, model: str) -> frozenset[Feature]:
        """It hands on what it keeps of its meters (see `StationConversation`), and has a clock. It takes keys
        of its own, and images for its meters, where the model says how. Raises ModelError."""
        found = load_model(model, self._folders)
        some = {Feature.KEYS: found.keys, Feature.DISTRIBUTES: found.distribution}
        return _ALWAYS | {feature for feature, said in some.items() if said is not None}

    def curves(self, model: str) -> tuple[Curve, ...]:
        """None of its own."""
        return ()

    async def prepare(self, targets: Sequence[Target]) -> dict[int, Way | LocalProtocolError]:
        """Plans, keys and counters for each. Raises SealError, CounterExhausted, UnavailableError."""
        return dict(await self._access.prepare(targets))

    def is_away(self, way: Way) -> bool:
        """Whether the concentrator dials in and is not connected."""
        return isinstance(way, Reach) and self._access.is_away(way)

    @asynccontextmanager
    async def open(self, way: Way, *, answer_s: float | None = None) -> AsyncIterator[Conversation]:
        """An associated session with the concentrator. Raises the tree of `protocols.errors`."""
        if not isinstance(way, Reach):
            raise TypeError(f"a way of DLMS is a Reach, not a {type(way).__name__}")
        async with self._access.session(way, answer_s=answer_s) as session:
            distributes = way.model.distribution is not None
            kind = DistributingConversation if distributes else StationConversation
            yield kind(session, way.model, self._shapes)


class StationConversation(ClockCommands, KeysCommands):
    """One session with a concentrator. One request at a time."""

    def __init__(self, session: MeterSession, model: MeterModel, shapes: Shapes) -> None:
        super().__init__(session, model)
        self._shapes = shapes
        self._layouts: tuple[Layout, ...] | None = None

    @property
    def answers_s(self) -> Sequence[float]:
        """Seconds that the last answers took."""
        return self._session.answers_s

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes of APDUs that were sent and that came."""
        return self._session.bytes_out, self._session.bytes_in

    async def directory(self) -> tuple[Entry, ...]:
        """The meters behind it. Raises RemoteProtocolError, DataAccessRefused, LinkError."""
        raw = await self._session.get(store_forward.DIRECTORY)
        if len(raw) > MOST_DIRECTORY:
            raise RemoteProtocolError(f"a directory of {len(raw)} bytes: at most {MOST_DIRECTORY} are read")
        return store_forward.decode_directory(raw)

    async def fetch(self, asks: Sequence[Ask]) -> list[Answer]:
        """Kept rows of many meters, in as few requests as the PDU allows; in order.

        What is wrong with one meter's rows is in its answer. Raises LinkError and RemoteProtocolError where
        the session ends.
        """
        if self._layouts is None:
            self._layouts = store_forward.decode_layouts(await self._session.get(store_forward.LAYOUTS))
        told = await self._session.get_items([_item(ask) for ask in asks], timeout_s=BULK_S)
        return [Answer(ask, self._rows(ask, raw, self._layouts)) for ask, raw in zip(asks, told, strict=True)]

    def _rows(
        self, ask: Ask, raw: bytes | DataAccessResult, layouts: tuple[Layout, ...]
    ) -> ReadingBatch | CommunicationError:
        if isinstance(raw, DataAccessResult):
            return refused(_item(ask).attribute, raw)
        kept = ask.kept
        try:
            layout = layout_of(layouts, kept.layout)
            shape = shape_by_layout(self._shapes, ask.model, kept.profile, kept.period_s, layout)
            return kept_rows(shape, raw, ask.meter_id, self._session.plan.label)
        except (RemoteProtocolError, LocalProtocolError) as error:
            return error

    async def release(self, releases: Sequence[Release]) -> None:
        """Let the concentrator overwrite these rows: only what the database has.

        Raises DataAccessRefused, LinkError, RemoteProtocolError.
        """
        if releases:
            await self._session.set(store_forward.RELEASE, store_forward.encode_release(releases))

    async def read_load_curve(self, number: int, start: datetime, end: datetime) -> ReadingBatch:
        """None of its own. Raises LocalProtocolError."""
        raise LocalProtocolError("a concentrator has no load curve of its own")

    async def read_registers(self, obis: Sequence[str] = ()) -> RegisterReadout:
        """None of its own. Raises LocalProtocolError."""
        raise LocalProtocolError("a concentrator has no registers of its own")

    async def read_events(self, since: datetime, until: datetime) -> ReadingBatch:
        """None of its own. Raises LocalProtocolError."""
        raise LocalProtocolError("a concentrator has no event log of its own")


class DistributingConversation(DistributionCommands, StationConversation):
    """One with a concentrator that hands on images."""


def _item(ask: Ask) -> AttributeItem:
    name = store_forward.buffer_name(ask.slot, ask.kept.profile)
    bounds = RangeDescriptor.between(
        CosemDateTime.from_utc(ask.since + _SECOND), CosemDateTime.from_utc(ask.until)
    )
    return AttributeItem(
        Attribute(ClassId.PROFILE_GENERIC, name, PROFILE_BUFFER),
        Selection(BY_RANGE, axdr.encode(bounds.encode())),
    )


def layout_of(layouts: Sequence[Layout], number: int) -> Layout:
    """The layout of this number. Raises RemoteProtocolError where there is none."""
    if number >= len(layouts):
        raise RemoteProtocolError(f"layout {number} is none of the {len(layouts)} that there are")
    return layouts[number]


def shape_by_layout(
    shapes: Shapes, model: MeterModel, number: int, period_s: int, layout: Layout
) -> ProfileShape:
    """How rows that a concentrator gives become a batch: columns by its layout, meanings by the model.

    Raises LocalProtocolError for a profile that the model has not, and as `Shapes.of`.
    """
    facts = ProfileFacts(
        tuple(column.capture for column in layout),
        period_s,
        descending=False,
        scalings=tuple(
            Scaling(str(column.capture.obis), column.scaling.scaler, column.scaling.symbol)
            for column in layout
            if column.scaling is not None
        ),
    )
    return shapes.of(model, profile_of(model, number), facts)


def kept_rows(shape: ProfileShape, raw: bytes, meter_id: int, source: str) -> ReadingBatch:
    """Rows that a concentrator kept of one meter. Raises RemoteProtocolError."""
    return covered_by_rows(to_batch(shape, decode_buffer(raw, shape.buffer), meter_id, source=source))


def covered_by_rows(batch: ReadingBatch) -> ReadingBatch:
    """The batch of one meter's profile, covering the intervals that are in it and nothing between them.

    What a concentrator has not, its meter may still have: a gap stays due.
    """
    whole = batch.fragment == Fragment.NONE
    if not whole.any():
        return batch
    start, stamp = batch.start_us[whole], batch.stamp_us[whole]
    order = np.argsort(start)
    start, stamp = start[order], stamp[order]
    breaks = np.flatnonzero(start[1:] != stamp[:-1])
    first = start[np.r_[0, breaks + 1]].tolist()
    last = stamp[np.r_[breaks, len(stamp) - 1]].tolist()
    meter, profile = int(batch.meter_id[0]), int(batch.profile[0])
    return replace(batch, covered_us=tuple((meter, profile, a, b) for a, b in zip(first, last, strict=True)))


if TYPE_CHECKING:  # what `features` says, the conversation can
    _CLOCK: type[ClockConversation] = StationConversation
    _KEYS: type[KeysConversation] = StationConversation
    _DISTRIBUTES: type[Distributing] = DistributingConversation
