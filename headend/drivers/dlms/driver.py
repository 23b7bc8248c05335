"""DLMS behind the contract: meters that are dialled, that dial in, or that only push."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headend.drivers.commands.clock import ClockConversation, SummerTimeConversation
from headend.drivers.commands.firmware import Upgradable
from headend.drivers.commands.keys import KeysConversation
from headend.drivers.commands.limit import Limitable
from headend.drivers.commands.parameters import Parametrised
from headend.drivers.commands.switch import Switchable
from headend.drivers.commands.tariff import TariffConversation
from headend.drivers.contract import (
    BillingConversation,
    Conversation,
    Curve,
    Feature,
    Recall,
    RegisterReadout,
    Target,
    Way,
)
from headend.drivers.dlms.billing import BillingReader
from headend.drivers.dlms.commands import DlmsCommands
from headend.drivers.dlms.events import EventReader
from headend.drivers.dlms.reader import DlmsReader
from headend.session.access import Access, Reach
from headend.session.client import MeterSession
from protocols.dlms.cosem import ClassId
from protocols.errors import LocalProtocolError
from schemas.model import MeterModel, load_model
from schemas.reading import ReadingBatch

DIALLED = "dlms"
#: Meters of such models are never called: they push.
PUSHES = "dlms-push"
_ALL = frozenset({Feature.CURVES, Feature.REGISTERS, Feature.EVENTS, Feature.BILLING})


class DlmsDriver:
    """The `headend.drivers.contract.Driver` of DLMS.

    Args:
        access: plans, keys and counters.
        reader: remembers what it learnt of meters' profiles.
        events: remembers what it learnt of their event logs.
        profile_folders: where models are looked for before the packaged ones.
    """

    names = (DIALLED, PUSHES)

    def __init__(
        self,
        access: Access,
        reader: DlmsReader | None = None,
        events: EventReader | None = None,
        *,
        profile_folders: tuple[Path, ...] = (),
    ) -> None:
        self._access = access
        self._reader = DlmsReader() if reader is None else reader
        self._events = EventReader() if events is None else events
        self._billing = BillingReader()
        self._folders = profile_folders

    def features(self, model: str) -> frozenset[Feature]:
        """What can be asked of meters of this model: nothing where they only push. Raises ModelError."""
        found = load_model(model, self._folders)
        if found.driver == PUSHES:
            return frozenset()
        can = _ALL if found.events.are_read else _ALL - {Feature.EVENTS}
        return can | _programs(found)

    def curves(self, model: str) -> tuple[Curve, ...]:
        """The model's load profiles. Raises ModelError."""
        found = load_model(model, self._folders)
        recall = Recall.PUSHED if found.driver == PUSHES else Recall.STORED
        return tuple(
            Curve(
                profile.number,
                profile.period_s,
                recall,
                found.clock.zone,
                obis=profile.obis,
                entries=profile.entries,
            )
            for profile in found.load_profiles
        )

    async def prepare(self, targets: Sequence[Target]) -> dict[int, Way | LocalProtocolError]:
        """Plans, keys and counters for each. Raises SealError, CounterExhausted, UnavailableError."""
        return dict(await self._access.prepare(targets))

    def is_away(self, way: Way) -> bool:
        """Whether the meter dials in and is not connected."""
        return self._access.is_away(_reach(way))

    @asynccontextmanager
    async def open(self, way: Way, *, answer_s: float | None = None) -> AsyncIterator[Conversation]:
        """An associated session. Raises the tree of `protocols.errors`."""
        reach = _reach(way)
        async with self._access.session(reach, answer_s=answer_s) as session:
            yield DlmsConversation(session, self._reader, self._events, self._billing, reach)


class DlmsConversation(DlmsCommands):
    """One session, as a `headend.drivers.contract.Conversation` with all that programs ask of meters."""

    def __init__(
        self,
        session: MeterSession,
        reader: DlmsReader,
        events: EventReader,
        billing: BillingReader,
        reach: Reach,
    ) -> None:
        super().__init__(session, reach.model)
        self._reader = reader
        self._events = events
        self._billing = billing
        self._meter_id = reach.meter.meter_id
        self._as_of = reach.meter.updated_at.timestamp()

    @property
    def answers_s(self) -> Sequence[float]:
        """Seconds that the last answers took."""
        return self._session.answers_s

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes of APDUs that were sent and that came."""
        return self._session.bytes_out, self._session.bytes_in

    async def read_load_curve(self, number: int, start: datetime, end: datetime) -> ReadingBatch:
        """As `DlmsReader.read_load_curve`."""
        return await self._reader.read_load_curve(
            self._session, self._meter_id, self._model, number, start, end, as_of=self._as_of
        )

    async def write_parameter(self, class_id: int, obis: str, attribute: int, value: dict[str, Any]) -> None:
        """As `ParametersCommands.write_parameter`; what is remembered of written profiles is forgotten."""
        if class_id == ClassId.PROFILE_GENERIC:
            self._reader.forget(self._meter_id)
            self._billing.forget(self._meter_id)
        await super().write_parameter(class_id, obis, attribute, value)

    async def read_registers(self, obis: Sequence[str] = ()) -> RegisterReadout:
        """As `DlmsReader.read_registers`."""
        return await self._reader.read_registers(self._session, self._meter_id, self._model, obis)

    async def read_billing(self, obis: str, since: datetime, until: datetime) -> RegisterReadout:
        """As `BillingReader.read_billing`."""
        return await self._billing.read_billing(
            self._session, self._meter_id, self._model, obis, since, until, as_of=self._as_of
        )

    async def read_events(self, since: datetime, until: datetime) -> ReadingBatch:
        """As `EventReader.read_events`."""
        return await self._events.read_events(self._session, self._meter_id, self._model, since, until)


def _programs(model: MeterModel) -> frozenset[Feature]:
    """Programs for which the model says where its objects are, or how they are used."""
    said = {
        Feature.CLOCK: model.clock.changes or None,
        Feature.FIRMWARE: model.firmware,
        Feature.SWITCH: model.switch,
        Feature.LIMIT: model.limit,
        Feature.KEYS: model.keys,
        Feature.TARIFF: model.tariff,
        Feature.PARAMETERS: True,  # read by all; written as the model allows
    }
    return frozenset(feature for feature, section in said.items() if section is not None)


def _reach(way: Way) -> Reach:
    if not isinstance(way, Reach):
        raise TypeError(f"a way of DLMS is a Reach, not a {type(way).__name__}")
    return way


if TYPE_CHECKING:  # what `DlmsDriver.features` says, the conversation can
    _BILLING: type[BillingConversation] = DlmsConversation
    _CLOCK: type[ClockConversation] = DlmsConversation
    _SUMMER_TIME: type[SummerTimeConversation] = DlmsConversation
    _FIRMWARE: type[Upgradable] = DlmsConversation
    _SWITCH: type[Switchable] = DlmsConversation
    _LIMIT: type[Limitable] = DlmsConversation
    _KEYS: type[KeysConversation] = DlmsConversation
    _TARIFF: type[TariffConversation] = DlmsConversation
    _PARAMETERS: type[Parametrised] = DlmsConversation
