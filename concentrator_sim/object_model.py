"""The objects of a kind of logical device: how they are asked, and what a client is told that asks wrongly.

An `ObjectModel` is shared by all meters; an attribute is a function of the device that is asked and the
moment. What a client can change lies in parts of the meter (`Meter.part`), made when they are first needed;
writing and invoking is for the management client alone.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Final, NamedTuple, Protocol, TypeVar

from concentrator_sim.event_log import EventBook
from concentrator_sim.generator import Consumption
from concentrator_sim.image_plan import ImagePlan
from concentrator_sim.security import MeterKeys, SecurityMode
from protocols.dlms import axdr
from protocols.dlms.apdu.fields import AttributeItem, Selection
from protocols.dlms.association import MethodOutcome
from protocols.dlms.cosem import Attribute, AttributeAccess, Method, MethodAccess, ObjectEntry
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.obis import Obis
from protocols.dlms.security import PeerCounter
from protocols.errors import RemoteProtocolError

#: Association SAPs on the client's side.
MANAGEMENT_CLIENT: Final = 1
PUBLIC_CLIENT: Final = 16

#: Access modes of attributes, and of methods.
_READ_ONLY: Final = 1
_READ_WRITE: Final = 3
_ACCESS: Final = 1

T = TypeVar("T")


class Meter(Protocol):
    """What objects may ask of the meter that they are in; see `meter.SimulatedMeter`."""

    @property
    def serial(self) -> str: ...
    @property
    def mode(self) -> SecurityMode: ...
    @property
    def number(self) -> int: ...
    @property
    def image_plan(self) -> ImagePlan: ...
    @property
    def keys(self) -> MeterKeys: ...
    @property
    def security_policy(self) -> int: ...
    @property
    def system_title(self) -> bytes: ...
    @property
    def client_title(self) -> bytes: ...
    @property
    def last_client_counter(self) -> int: ...
    @property
    def client_counter(self) -> PeerCounter | None: ...
    @property
    def deviation_min(self) -> int: ...
    @property
    def consumption(self) -> Consumption: ...
    @property
    def entries(self) -> int: ...
    @property
    def events(self) -> EventBook: ...
    @property
    def devices(self) -> Sequence["Device"]: ...

    def rekeyed(self, client_counter: PeerCounter) -> None:
        """Its keys may be others from now on; ``client_counter`` is that of the one that encrypts."""

    def live_until(self, now_s: int) -> None:
        """What it does by itself up to a moment (Unix seconds) is done."""

    def part(self, kind: "Callable[[Meter], T]") -> T:
        """The meter's part of this kind: made by it when it is first asked for, then the same."""

    def part_if_any(self, kind: "Callable[[Meter], T]") -> T | None:
        """The part, where it was asked for before: most meters of a field were never written to."""


class Device(Protocol):
    """What objects may ask of their logical device; see `meter.LogicalDevice`."""

    @property
    def sap(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def model(self) -> "ObjectModel": ...
    @property
    def meter(self) -> Meter: ...


class Asked(NamedTuple):
    """Who asks what of whom, and when (Unix seconds)."""

    device: Device
    client_sap: int
    now_s: int
    selection: Selection | None = None


Value = bytes | DataAccessResult
Read = Callable[[Asked], Value]
#: Takes the new value as A-XDR bytes.
Write = Callable[[Asked, bytes], DataAccessResult]
#: Takes the parameter as A-XDR bytes, None where none was given.
Invoke = Callable[[Asked, bytes | None], ActionResult | MethodOutcome]


class CosemObject(NamedTuple):
    """One object. ``attributes`` by index, but for the logical name; ``public`` ones anybody may read.
    ``writes`` are those of the attributes that can be written; ``methods`` by index."""

    class_id: int
    version: int
    obis: Obis
    attributes: Mapping[int, Read]
    public: frozenset[int] = frozenset()
    selectors: Mapping[int, tuple[int, ...]] = {}
    writes: Mapping[int, Write] = {}
    methods: Mapping[int, Invoke] = {}


class ObjectModel:
    """The objects of one kind of logical device."""

    def __init__(self, objects: Sequence[CosemObject]) -> None:
        self._objects = {item.obis: item for item in objects}

    @cached_property
    def public(self) -> frozenset[Attribute]:
        """What the public client may read: of public objects their names too."""
        return frozenset(
            Attribute(item.class_id, item.obis, index)
            for item in self._objects.values()
            for index in ((1, *item.public) if item.public else ())
        )

    def read(self, item: AttributeItem, device: Device, client_sap: int, now_s: int) -> Value:
        """One attribute as A-XDR bytes, or the reason why not."""
        device.meter.live_until(now_s)
        found = self._find(item.attribute)
        if isinstance(found, DataAccessResult):
            return found
        index, selection = item.attribute.index, item.selection
        if selection is not None and index not in found.selectors:
            return DataAccessResult.SCOPE_OF_ACCESS_VIOLATED
        if index == 1:
            return b"\x09\x06" + found.obis.raw
        return found.attributes[index](Asked(device, client_sap, now_s, selection))

    def write(
        self, attribute: Attribute, value: bytes, device: Device, client_sap: int, now_s: int
    ) -> DataAccessResult:
        """The answer to a SET of an A-XDR ``value``."""
        device.meter.live_until(now_s)
        found = self._find(attribute)
        if isinstance(found, DataAccessResult):
            return found
        write = found.writes.get(attribute.index)
        if write is None or client_sap == PUBLIC_CLIENT:
            return DataAccessResult.READ_WRITE_DENIED
        try:
            return write(Asked(device, client_sap, now_s), value)
        except RemoteProtocolError:
            return DataAccessResult.TYPE_UNMATCHED

    def invoke(
        self, method: Method, parameter: bytes | None, device: Device, client_sap: int, now_s: int
    ) -> MethodOutcome:
        """The answer to an ACTION."""
        device.meter.live_until(now_s)
        found = self._objects.get(method.obis)
        if found is None:
            return MethodOutcome(ActionResult.OBJECT_UNDEFINED)
        if found.class_id != method.class_id:
            return MethodOutcome(ActionResult.OBJECT_CLASS_INCONSISTENT)
        invoke = found.methods.get(method.index)
        if invoke is None or client_sap == PUBLIC_CLIENT:
            return MethodOutcome(ActionResult.READ_WRITE_DENIED)
        try:
            done = invoke(Asked(device, client_sap, now_s), parameter)
        except RemoteProtocolError:
            return MethodOutcome(ActionResult.TYPE_UNMATCHED)
        return done if isinstance(done, MethodOutcome) else MethodOutcome(done)

    def object_list(self, client_sap: int) -> bytes:
        """Attribute object_list as this client sees it."""
        return self._lists[client_sap == PUBLIC_CLIENT]

    @cached_property
    def _lists(self) -> tuple[bytes, bytes]:
        whole, public = [], []
        for item in self._objects.values():
            whole.append(_entry(item, (1, *item.attributes)))
            if item.public:
                public.append(_entry(item, (1, *sorted(item.public)), public=True))
        return axdr.encode(axdr.array(whole)), axdr.encode(axdr.array(public))

    def _find(self, attribute: Attribute) -> CosemObject | DataAccessResult:
        found = self._objects.get(attribute.obis)
        if found is None:
            return DataAccessResult.OBJECT_UNDEFINED
        if found.class_id != attribute.class_id:
            return DataAccessResult.OBJECT_CLASS_INCONSISTENT
        if attribute.index != 1 and attribute.index not in found.attributes:
            return DataAccessResult.OBJECT_UNDEFINED
        return found


def _entry(item: CosemObject, indices: Sequence[int], *, public: bool = False) -> axdr.Data:
    rights = tuple(
        AttributeAccess(
            n, _READ_WRITE if n in item.writes and not public else _READ_ONLY, item.selectors.get(n, ())
        )
        for n in indices
    )
    methods = () if public else tuple(MethodAccess(n, _ACCESS) for n in item.methods)
    return ObjectEntry(item.class_id, item.version, item.obis, rights, methods).encode()
