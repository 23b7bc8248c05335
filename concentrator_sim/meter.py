"""One simulated meter: who it is, its logical devices, its keys and counters. No I/O, and small: a field has
10,000 of them, so that everything that costs memory is made when it is first asked for."""

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from concentrator_sim.event_log import EventBook
from concentrator_sim.generator import Consumption
from concentrator_sim.image_plan import DEFAULT_PLAN, ImagePlan
from concentrator_sim.key_slots import KeySlots
from concentrator_sim.limiter import Limiter
from concentrator_sim.object_model import MANAGEMENT_CLIENT, PUBLIC_CLIENT, Meter, ObjectModel
from concentrator_sim.objects import FURTHER, MANAGEMENT
from concentrator_sim.security import (
    MODES,
    MeterKeys,
    SecurityMode,
    derive_keys,
    management_settings,
    public_settings,
)
from concentrator_sim.straight import Straight
from protocols.dlms.association import ServerAssociation, ServerSettings
from protocols.dlms.security import MAX_COUNTER, PeerCounter

#: Three letters of the maker, as system titles and logical device names begin.
MAKER: Final = "HES"
#: Central European Time all the year: UTC = local time - 60 minutes.
CET_DEVIATION_MIN: Final = -60
#: 70 days of 15 minutes.
PROFILE_ROWS: Final = 70 * 96
#: Longest APDU and default of most meters.
MAX_PDU: Final = 1024

# A real meter keeps its invocation counter in memory that survives. This one begins at the clock instead,
# 16 for each second since 2025, so that it is above all that it used before it was started again.
_COUNTER_EPOCH_S: Final = 1_735_689_600
_COUNTERS_PER_S: Final = 16
_SECURITY_POLICY_BOTH: Final = 0x6C  # version 1: requests and responses authenticated and encrypted


T = TypeVar("T")


def serial_of(seed: int, number: int) -> str:
    """Serial number of meter ``number`` in the field ``seed``, whatever language it speaks."""
    return f"SIM{seed:05d}{number:07d}"


class LogicalDevice:
    """One server SAP of a meter."""

    __slots__ = ("meter", "model", "name", "sap")

    meter: "SimulatedMeter"
    sap: int
    name: str
    model: ObjectModel

    def __init__(self, meter: "SimulatedMeter", sap: int, name: str, model: ObjectModel) -> None:
        self.meter = meter
        self.sap = sap
        self.name = name
        self.model = model


class SimulatedMeter:
    """Meter ``number`` of the field ``seed``.

    ``sap`` is the server SAP of its management logical device, ``further`` how many more logical devices
    follow it; ``deviation_min`` is UTC minus its clock; ``entries`` the rows of its load profile.
    """

    __slots__ = (
        "_consumption",
        "_counter",
        "_events",
        "_keys",
        "_management",
        "_parts",
        "_peer",
        "_public",
        "_sap",
        "block_size",
        "client_title",
        "deviation_min",
        "entries",
        "further",
        "image_plan",
        "max_pdu",
        "mode",
        "number",
        "seed",
    )

    def __init__(
        self,
        seed: int,
        number: int,
        mode: SecurityMode = MODES["none"],
        *,
        sap: int = 1,
        further: int = 0,
        max_pdu: int = MAX_PDU,
        block_size: int = 0,
        deviation_min: int = CET_DEVIATION_MIN,
        entries: int = PROFILE_ROWS,
        image_plan: ImagePlan = DEFAULT_PLAN,
    ) -> None:
        self.seed = seed
        self.number = number
        self.mode = mode
        self.further = further
        self.max_pdu = max_pdu
        self.block_size = block_size
        self.deviation_min = deviation_min
        self.entries = entries
        self.image_plan = image_plan
        #: the client's system title that was last associated, empty before
        self.client_title = b""
        self._sap = sap
        self._consumption: Consumption | None = None
        self._events: EventBook | None = None
        self._keys: MeterKeys | None = None
        self._management: ServerSettings | None = None
        self._public: ServerSettings | None = None
        self._peer: PeerCounter | None = None
        self._counter: int | None = None
        self._parts: dict[Any, object] | None = None

    @property
    def serial(self) -> str:
        """Serial number, unique in a field; the head-end's asset id."""
        return serial_of(self.seed, self.number)

    @property
    def system_title(self) -> bytes:
        """The maker's letters, the field's seed in two bytes and the number in three."""
        return MAKER.encode() + (self.seed & 0xFFFF).to_bytes(2, "big") + self.number.to_bytes(3, "big")

    @property
    def name(self) -> str:
        """Logical device name of the management logical device: 16 characters."""
        return self._name(0)

    @property
    def management(self) -> LogicalDevice:
        """The logical device that has all the objects."""
        return LogicalDevice(self, self._sap, self.name, MANAGEMENT)

    @property
    def devices(self) -> tuple[LogicalDevice, ...]:
        """All logical devices, the management one first."""
        more = (
            LogicalDevice(self, self._sap + n, self._name(n), FURTHER) for n in range(1, self.further + 1)
        )
        return (self.management, *more)

    @property
    def consumption(self) -> Consumption:
        """What it has metered."""
        if self._consumption is None:
            self._consumption = Consumption(self.seed, self.number)
        return self._consumption

    @property
    def events(self) -> EventBook:
        """What happened to it."""
        if self._events is None:
            self._events = EventBook(self.seed, self.number)
        return self._events

    def live_until(self, now_s: int) -> None:
        """What it does by itself up to a moment (Unix seconds) is done, at the moments when it happened."""
        limiter = self.part_if_any(Limiter)
        if limiter is not None:
            limiter.live(now_s)

    def part(self, kind: Callable[[Meter], T]) -> T:
        """The meter's part of this kind: made by it when it is first asked for, then the same."""
        if self._parts is None:
            self._parts = {}
        found = self._parts.get(kind)
        if found is None:
            found = self._parts[kind] = kind(self)
        return cast("T", found)

    def part_if_any(self, kind: Callable[[Meter], T]) -> T | None:
        """The part, where it was asked for before: most meters of a field were never written to."""
        return None if self._parts is None else cast("T | None", self._parts.get(kind))

    @property
    def keys(self) -> MeterKeys:
        """Its keys: those that it came with, or was given since."""
        slots = self.part_if_any(KeySlots)
        if slots is not None:
            return slots.keys
        if self._keys is None:
            self._keys = derive_keys(self.seed, self.number, self.mode)
        return self._keys

    @property
    def security_policy(self) -> int:
        """Attribute security_policy of Security Setup, version 1."""
        return _SECURITY_POLICY_BOTH if self.mode.ciphered else 0

    @property
    def last_client_counter(self) -> int:
        """The last invocation counter accepted from the management client, 0 before the first."""
        last = None if self._peer is None else self._peer.last
        return 0 if last is None else last

    @property
    def client_counter(self) -> PeerCounter | None:
        """The counter that the management client is held to, None before its first association."""
        return self._peer

    def rekeyed(self, client_counter: PeerCounter) -> None:
        """Its keys may be others from now on; ``client_counter`` is that of the one that encrypts."""
        self._management = None
        self._peer = client_counter

    def settings(self) -> ServerSettings:
        """What the management client must prove, under the keys of now."""
        if self._management is None:
            self._management = management_settings(
                self.mode, self.keys, self.system_title, max_pdu=self.max_pdu, block_size=self.block_size
            )
        return self._management

    def associate(
        self, device: LogicalDevice, client_sap: int, clock: Callable[[], int]
    ) -> ServerAssociation | None:
        """A new association of ``client_sap`` with one of its devices; None for a client it does not know."""
        if client_sap == PUBLIC_CLIENT:
            if self._public is None or device.model is not MANAGEMENT:
                settings = public_settings(self.system_title, device.model.public, max_pdu=self.max_pdu)
                if device.model is not MANAGEMENT:
                    return ServerAssociation(settings)
                self._public = settings
            return ServerAssociation(self._public)
        if client_sap != MANAGEMENT_CLIENT:
            return None
        settings = self._management or self.settings()
        if self._peer is None:
            self._peer = PeerCounter()
        peer = self._peer

        def counter() -> int:
            return self._next_counter(clock)

        if not Straight.fits(settings):
            return ServerAssociation(settings, next_counter=counter, peer_counter=peer)
        return Straight(
            settings,
            next_counter=counter,
            peer_counter=peer,
            read=lambda item: device.model.read(item, device, client_sap, clock()),
            met=self._meet,
        )

    def _meet(self, client_title: bytes) -> None:
        self.client_title = client_title

    def _name(self, device: int) -> str:
        return f"{MAKER}{self.seed:05d}{self.number:07d}{device:X}"

    def _next_counter(self, clock: Callable[[], int]) -> int:
        if self._counter is None:
            self._counter = max(0, clock() - _COUNTER_EPOCH_S) * _COUNTERS_PER_S % MAX_COUNTER
        self._counter += 1
        return self._counter
