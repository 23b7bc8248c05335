"""The server side of one link, sans-I/O: APDUs of any client and server SAP in, APDUs out.

A station is made per connection. Behind it stand one meter, or several that share the link and are told
apart by their server SAP.
"""

from collections.abc import Callable, Mapping, Sequence

from concentrator_sim.image import is_away
from concentrator_sim.key_slots import KeySlots
from concentrator_sim.meter import LogicalDevice, SimulatedMeter
from concentrator_sim.push_setup import Push, take_due
from concentrator_sim.straight import Straight
from protocols.dlms.apdu.access import AccessAction, AccessGet
from protocols.dlms.apdu.fields import AttributeItem
from protocols.dlms.association import (
    AccessRequested,
    ActionRequested,
    ClientAssociated,
    GetRequested,
    MethodOutcome,
    ServerAssociation,
    ServerEvent,
    ServerState,
    SetRequested,
    Transmit,
)
from protocols.dlms.cosem import Method
from protocols.dlms.enums import ActionResult, DataAccessResult

Bus = Mapping[int, LogicalDevice]
#: Takes what a meter pushes; whether it will be sent.
Post = Callable[[SimulatedMeter, Push], bool]


def bus_of(meters: Sequence[SimulatedMeter]) -> Bus:
    """The logical devices of these meters by server SAP. Raises ValueError where two have the same."""
    bus: dict[int, LogicalDevice] = {}
    for meter in meters:
        for device in meter.devices:
            if device.sap in bus:
                raise ValueError(f"two logical devices have the server SAP {device.sap}")
            bus[device.sap] = device
    return bus


class Station:
    """Associations of one link. ``clock`` gives Unix seconds. Without ``post`` its meters push nothing."""

    __slots__ = ("_associations", "_bus", "_clock", "_post")

    def __init__(self, bus: Bus, clock: Callable[[], int], post: Post | None = None) -> None:
        self._post = post
        self._bus = bus
        self._clock = clock
        self._associations: dict[tuple[int, int], ServerAssociation] = {}

    def knows(self, server: int) -> bool:
        """Whether a logical device has this SAP."""
        return server in self._bus

    def receive(self, client: int, server: int, apdu: bytes) -> list[bytes]:
        """One APDU; the APDUs to send back. A SAP that nobody has is answered with silence."""
        device = self._bus.get(server)
        if device is None:
            return []
        if is_away(device.meter, self._clock()):
            self._associations.pop((client, server), None)
            return []
        association = self._associations.get((client, server))
        if association is None:
            made = device.meter.associate(device, client, self._clock)
            if made is None:
                return []
            association = self._associations[client, server] = made
        answers = self._answers(association, apdu, device, client)
        if association.state is ServerState.IDLE:
            del self._associations[client, server]
        return answers

    @property
    def is_idle(self) -> bool:
        """Whether no association stands."""
        return not self._associations

    def _answers(
        self, association: ServerAssociation, apdu: bytes, device: LogicalDevice, client: int
    ) -> list[bytes]:
        if isinstance(association, Straight) and (answer := association.answer(apdu)) is not None:
            return [answer]
        out: list[bytes] = []
        for event in association.receive(apdu):
            if isinstance(event, Transmit):
                out.append(event.apdu)
            else:
                out += self._serve(event, association, device, client)
        return out

    def drop(self, client: int, server: int) -> None:
        """The data link below this association is gone."""
        association = self._associations.get((client, server))
        if association is not None:
            association.reset()

    def _serve(
        self, event: ServerEvent, association: ServerAssociation, device: LogicalDevice, client: int
    ) -> list[bytes]:
        model, now = device.model, self._clock()
        match event:
            case GetRequested(items):
                return association.respond_get([model.read(item, device, client, now) for item in items])
            case SetRequested(items, values):
                return association.respond_set(
                    [
                        model.write(item.attribute, value, device, client, now)
                        for item, value in zip(items, values, strict=True)
                    ]
                )
            case ActionRequested(methods, parameters):
                outcomes = [
                    self._invoke(method, parameter, device, client)
                    for method, parameter in zip(methods, parameters, strict=True)
                ]
                slots = device.meter.part_if_any(KeySlots)
                if slots is None or slots.answering is None:
                    return association.respond_action(outcomes)
                return _rekeyed(association, device, slots, outcomes)
            case AccessRequested(specs, given):
                data: list[bytes | None] = []
                results: list[DataAccessResult | ActionResult] = []
                for spec, datum in zip(specs, given, strict=True):
                    value: bytes | DataAccessResult | ActionResult
                    if isinstance(spec, AccessGet):
                        item = AttributeItem(spec.attribute, spec.selection)
                        value = model.read(item, device, client, now)
                    elif isinstance(spec, AccessAction):
                        outcome = self._invoke(spec.method, datum.data, device, client)
                        if outcome.result is ActionResult.SUCCESS:
                            data.append(outcome.returned if isinstance(outcome.returned, bytes) else None)
                            results.append(outcome.result)
                            continue
                        value = outcome.result
                    else:
                        value = model.write(spec.attribute, datum.data, device, client, now)
                    data.append(value if isinstance(value, bytes) else None)
                    results.append(DataAccessResult.SUCCESS if isinstance(value, bytes) else value)
                return association.respond_access(data, results)
            case ClientAssociated(client_system_title=title):
                if title is not None:
                    device.meter.client_title = title
        return []

    def _invoke(
        self, method: Method, parameter: bytes | None, device: LogicalDevice, client: int
    ) -> MethodOutcome:
        """What it leads a meter to push is posted, or it is refused."""
        outcome = device.model.invoke(method, parameter, device, client, self._clock())
        push = take_due(device.meter)
        if push is None or (self._post is not None and self._post(device.meter, push)):
            return outcome
        return MethodOutcome(ActionResult.TEMPORARY_FAILURE)


def _rekeyed(
    association: ServerAssociation, device: LogicalDevice, slots: KeySlots, outcomes: list[MethodOutcome]
) -> list[bytes]:
    """The answer to a transfer of keys, with which the association ends."""
    is_sent, slots.answering = slots.answering, None
    cipher = device.meter.settings().cipher
    if slots.answers_new and cipher is not None:
        association.rekey(cipher, slots.peer())
    answers = association.respond_action(outcomes)
    association.reset()
    return answers if is_sent else []
