"""What a simulated meter was set up to push: what is in it, who sends it, and what becomes of it."""

import asyncio
import socket
from typing import Any

import pytest

from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.objects import MANAGEMENT
from concentrator_sim.outbound import MAX_PUSHES, SetUpPushes
from concentrator_sim.push_setup import PUSH_SETUP, Push, take_due
from concentrator_sim.scenario import Framing
from concentrator_sim.station import Station, bus_of
from protocols.dlms import axdr, wrapper
from protocols.dlms.association import ActionDone, Associated, ClientAssociation, ClientSettings, Transmit
from protocols.dlms.cosem import Attribute, CaptureObject, Method
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.obis import Obis

NOW = 1_800_000_123
PUSH = Method(40, PUSH_SETUP, 1)
_ZERO = axdr.encode(axdr.i8(0))
_SCALER, _ENERGY = (CaptureObject(3, Obis.parse("1-0:1.8.0*255"), 3, place) for place in (2, 0))


def set_up(
    meter: SimulatedMeter, *objects: CaptureObject, address: bytes = b"[::1]:4059", **more: int
) -> None:
    values = {
        2: axdr.array(one.encode() for one in objects),
        3: axdr.structure(
            axdr.enum(more.get("service", 0)), axdr.octets(address), axdr.enum(more.get("message", 0))
        ),
        5: axdr.u16(7),
        6: axdr.u8(2),
        7: axdr.u16(3),
    }
    for index, value in values.items():
        attribute = Attribute(40, PUSH_SETUP, index)
        done = MANAGEMENT.write(attribute, axdr.encode(value), meter.management, 1, NOW)
        assert done is DataAccessResult.SUCCESS


def told(meter: SimulatedMeter, parameter: bytes | None = _ZERO) -> Any:
    return MANAGEMENT.invoke(PUSH, parameter, meter.management, 1, NOW).result


def test_it_pushes_what_is_listed_and_null_where_it_has_nothing():
    meter = SimulatedMeter(1, 1)
    nothing = CaptureObject(3, Obis.parse("1-0:9.9.9*255"), 2)
    set_up(meter, _SCALER, nothing, CaptureObject(3, _ENERGY.obis, 3, 9), CaptureObject(3, _ENERGY.obis, 2))
    assert told(meter) is ActionResult.SUCCESS
    push = take_due(meter)
    assert push is not None
    unit, *nulls, energy = axdr.decode_exact(push.body).value
    assert (unit.value, [one.value for one in nulls]) == (30, [None, None])
    assert energy.value == meter.consumption.at(0, NOW)
    assert push[:3] == ("tcp", "::1", 4059)
    assert push[-3:] == (7, 2, 3)
    assert take_due(meter) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"address": b"192.168.1.7:4059"},
        {"address": b"headend.example:4059"},
        {"address": b"127.0.0.1"},
        {"address": b"127.0.0.1:70000"},
        {"address": b"\xff"},
        {"service": 2},
        {"message": 1},
    ],
)
def test_it_pushes_to_listeners_of_this_machine_alone(wrong):
    meter = SimulatedMeter(1, 1)
    assert told(meter) is ActionResult.OTHER_REASON  # it was not set up
    set_up(meter, _ENERGY, **wrong)
    assert told(meter) is ActionResult.OTHER_REASON
    assert take_due(meter) is None


def test_what_is_no_set_up_is_told():
    meter = SimulatedMeter(1, 1)
    set_up(meter, _ENERGY)
    assert told(meter, None) is ActionResult.TYPE_UNMATCHED
    wrong = axdr.encode(axdr.structure(axdr.enum(0), axdr.u8(1), axdr.enum(0)))
    MANAGEMENT.write(Attribute(40, PUSH_SETUP, 3), wrong, meter.management, 1, NOW)
    assert told(meter) is ActionResult.TYPE_UNMATCHED


@pytest.mark.parametrize(("post", "result"), [(None, 2), (lambda *_: False, 2), (lambda *_: True, 0)])
def test_a_meter_that_nobody_sends_for_says_so(post, result):
    meter = SimulatedMeter(1, 1)
    set_up(meter, _ENERGY)
    station = Station(bus_of([meter]), lambda: NOW, post)
    client = ClientAssociation(ClientSettings())
    found: list[Any] = []
    for make in (client.associate, lambda: client.action(PUSH, _ZERO)):
        for answer in station.receive(1, 1, make()):
            found += [one for one in client.receive(answer) if not isinstance(one, Transmit)]
    assert isinstance(found[0], Associated)
    assert isinstance(found[1], ActionDone)
    assert found[1].outcomes[0].result == result


def push_to(port: int, scheme: str = "tcp", *, within_s: int = 0, retries: int = 0) -> Push:
    return Push(
        scheme, "127.0.0.1", port, axdr.encode(axdr.structure(axdr.u8(7))), bytes(12), within_s, retries, 0
    )


async def test_it_is_sent_by_udp_and_tried_again_where_nobody_listens():
    pushes, meter = SetUpPushes(lambda: NOW, 17), SimulatedMeter(1, 1)
    with socket.socket(type=socket.SOCK_DGRAM) as listener, socket.socket() as nobody:
        listener.bind(("127.0.0.1", 0))
        nobody.bind(("127.0.0.1", 0))
        pushes.take(Framing.WRAPPER, meter, push_to(listener.getsockname()[1], "udp"))
        pushes.take(Framing.WRAPPER, meter, push_to(nobody.getsockname()[1], retries=2))
        async with asyncio.timeout(10):
            await asyncio.gather(*pushes._tasks)
        assert (pushes.sent, pushes.failed) == (1, 1)
        apdu = listener.recv(2000)[wrapper.HEADER_LENGTH :]
    assert apdu[0] == 0x0F  # Data-Notification
    assert apdu[-4:] == bytes((2, 1, 17, 7))
    await pushes.stop()


async def test_what_waits_is_bounded_and_given_up_at_the_end():
    pushes, meter = SetUpPushes(lambda: NOW, 17), SimulatedMeter(1, 1)
    late = push_to(1, within_s=60_000)
    assert [pushes.take(Framing.WRAPPER, meter, late) for _ in range(MAX_PUSHES + 1)].count(False) == 1
    await pushes.stop()
    assert (pushes.sent, pushes.failed) == (0, 0)
