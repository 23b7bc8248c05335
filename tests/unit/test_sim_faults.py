"""Faults: when, whom, and what becomes of a message; and each of them once on a real socket."""

import asyncio
import contextlib

import pytest
from pydantic import ValidationError

from concentrator_sim.event_log import STANDARD, EventBook
from concentrator_sim.faults import Delivery, Fault, Faults
from concentrator_sim.field import Field
from concentrator_sim.generator import Consumption
from concentrator_sim.scenario import make_scenario
from concentrator_sim.shapes import QUARTER_S
from protocols.dlms import axdr, wrapper
from protocols.dlms.association import ClientAssociation, ClientSettings, Transmit
from protocols.dlms.cosem import Attribute
from protocols.dlms.obis import Obis

START = 1_800_000_000
ENERGY = Attribute(3, Obis.parse("1-0:1.8.0"), 2)
CLOCK = Attribute(8, Obis.parse("0-0:1.0.0"), 2)
DEADLINE_S = 20
SILENCE_S = 0.15


def faults(*told, target="SIM1", seed=1):
    return Faults(target, [Fault.model_validate(one) for one in told], seed=seed, started=START)


def test_schedule():
    once = Fault(kind="loss", after_s=10, for_s=5)
    assert [once.lasts(t) for t in (9, 10, 14.9, 15, 1000)] == [False, True, True, False, False]
    again = Fault(kind="loss", after_s=10, for_s=5, every_s=20)
    assert [again.lasts(t) for t in (9, 10, 15, 30, 34, 35)] == [False, True, False, True, True, False]
    assert [again.begun(t) for t in (9, 10, 29, 30)] == [0, 1, 1, 2]
    ever = Fault(kind="loss", after_s=10)
    assert [ever.lasts(t) for t in (0, 10, 10**6)] == [False, True, True]


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"kind": "delay"}, "needs delay_s"),
        ({"kind": "loss", "per_bit": 0.1}, "has no per_bit"),
        ({"kind": "loss", "every_s": 10}, "lasts for_s"),
        ({"kind": "loss", "every_s": 10, "for_s": 10}, "lasts for_s"),
        ({"kind": "reboot"}, "needs for_s"),
        ({"kind": "reboot", "for_s": 1, "chance": 0.5}, "chance is for"),
        ({"kind": "counter_reset", "for_s": 1}, "happens once"),
        ({"kind": "explode"}, "kind"),
        ({"kind": "loss", "chance": 0}, "chance"),
    ],
)
def test_faults_that_say_nothing_sensible_are_refused(told, says):
    with pytest.raises(ValidationError, match=says):
        Fault.model_validate(told)


def test_messages():
    message = bytes(range(200))
    assert faults().deliveries(message, START) == [Delivery(0.0, message)]
    assert faults({"kind": "loss"}).deliveries(message, START) == []
    assert faults({"kind": "loss", "after_s": 1}).deliveries(message, START) == [Delivery(0.0, message)]
    (late,) = faults({"kind": "delay", "delay_s": 4}).deliveries(message, START)
    assert 0 < late.delay_s < 4
    assert late.data == message
    assert faults({"kind": "duplicate"}).deliveries(message, START) == 2 * [Delivery(0.0, message)]
    (short,) = faults({"kind": "truncate"}).deliveries(message, START)
    assert len(short.data) < 200
    assert message.startswith(short.data)
    (wrong,) = faults({"kind": "bit_errors", "per_bit": 0.01}).deliveries(message, START)
    flipped = sum((a ^ b).bit_count() for a, b in zip(message, wrong.data, strict=True))
    assert 0 < flipped < 50


def test_chance_is_kept_and_repeats():
    first, again = (faults({"kind": "loss", "chance": 0.1}) for _ in range(2))
    lost = [not first.deliveries(b"x", START) for _ in range(5000)]
    assert lost == [not again.deliveries(b"x", START) for _ in range(5000)]
    assert 400 < sum(lost) < 600


def test_targets_and_shares():
    assert not faults({"kind": "loss", "targets": "DC-*"})
    assert faults({"kind": "loss", "targets": "DC-*"}, target="DC-0001")
    struck = [bool(faults({"kind": "loss", "share": 0.3}, target=f"SIM{n}")) for n in range(2000)]
    assert 500 < sum(struck) < 700
    assert struck == [bool(faults({"kind": "loss", "share": 0.3}, target=f"SIM{n}")) for n in range(2000)]


def test_a_clock_drifts():
    drifting = faults({"kind": "clock_drift", "drift_ppm": 1000, "after_s": 100})
    assert drifting.clock(START + 100) == START + 100
    assert drifting.clock(START + 100_100) == START + 100_100 + 100
    assert faults({"kind": "clock_drift", "drift_ppm": -1000}).clock(START + 1000) == START + 999


def test_full_buffers():
    full = faults({"kind": "full_buffer", "after_s": 5, "for_s": 5})
    assert [full.is_full(START + t) for t in (0, 5, 10)] == [False, True, False]


@pytest.mark.parametrize("moment", [START, START - START % QUARTER_S, START - 1])
def test_counters_begin_at_zero_again(moment):
    plain, reset = Consumption(7, 3), Consumption(7, 3)
    reset.reset_at(moment)
    assert faults({"kind": "counter_reset", "after_s": 9}).counter_reset_s() == START + 9
    for quantity in range(4):
        assert reset.at(quantity, moment - 1) == plain.at(quantity, moment - 1)
        assert reset.at(quantity, moment) == 0
        later = moment + 86_400
        assert reset.at(quantity, later) == plain.at(quantity, later) - plain.at(quantity, moment)
    first = (moment - 1_577_833_200) // QUARTER_S - 3
    series = reset.series(0, first, 8)
    assert series.tolist() == [reset.at(0, 1_577_833_200 + (first + n) * QUARTER_S) for n in range(8)]
    steps = series[1:] - series[:-1]
    assert (steps < 0).sum() == 1


class Peer:
    """A client of one meter without security."""

    def __init__(self, field, number=0):
        self.port = field.meters[number].port
        self.client = ClientAssociation(ClientSettings())

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def __aexit__(self, *exc):
        self.writer.close()
        with contextlib.suppress(ConnectionResetError):
            await self.writer.wait_closed()

    def send(self, apdu):
        self.writer.write(wrapper.encode(1, 1, apdu))

    async def hears(self, seconds=DEADLINE_S):
        """Bytes, empty at the end, None for silence."""
        try:
            return await asyncio.wait_for(self.reader.read(4096), seconds)
        except TimeoutError:
            return None
        except ConnectionResetError:
            return b""

    def events(self, data):
        reader = wrapper.WrapperReader()
        reader.feed(data)
        events = []
        while (frame := reader.next()) is not None:
            events += self.client.receive(frame.apdu)
        return [event for event in events if not isinstance(event, Transmit)]

    async def associate(self):
        self.send(self.client.associate())
        return self.events(await self.hears())

    async def get(self, attribute=ENERGY):
        self.send(self.client.get(attribute))
        (done,) = self.events(await self.hears())
        return axdr.decode_exact(done.results[0]).value


def field(clock, *told, **settings):
    table = {"meters": 1, "base_port": 0, "security": "none", "faults": list(told), **settings}
    return Field(make_scenario(table), clock=clock)


class Hands:
    """A clock that is turned by hand."""

    now = START

    def __call__(self):
        return self.now


async def test_loss_and_silence_on_a_socket():
    async with field(Hands(), {"kind": "loss"}) as one, Peer(one) as peer:
        peer.send(peer.client.associate())
        assert await peer.hears(SILENCE_S) is None


async def test_delay_on_a_socket():
    async with field(Hands(), {"kind": "delay", "delay_s": 0.4}) as one, Peer(one) as peer:
        peer.send(peer.client.associate())
        assert await peer.hears(0.0) is None
        assert peer.events(await peer.hears())


async def test_duplicates_on_a_socket():
    async with field(Hands(), {"kind": "duplicate"}) as one, Peer(one) as peer:
        peer.send(peer.client.associate())
        data = await peer.hears()
        while len(data) % 2 or data[: len(data) // 2] != data[len(data) // 2 :]:
            data += await peer.hears()
        assert data


async def test_truncated_and_wrong_answers_on_a_socket():
    async with field(Hands()) as one, Peer(one) as peer:
        peer.send(peer.client.associate())
        right = await peer.hears()
    async with field(Hands(), {"kind": "truncate"}) as one, Peer(one) as peer:
        peer.send(peer.client.associate())
        short = await peer.hears(1)
        assert short is None or (right.startswith(short) and len(short) < len(right))
    async with field(Hands(), {"kind": "bit_errors", "per_bit": 0.05}) as one, Peer(one) as peer:
        peer.send(peer.client.associate())
        wrong = await peer.hears()
        assert len(wrong) == len(right)
        assert wrong != right


async def test_a_half_open_connection_stays_dead():
    clock = Hands()
    async with field(clock, {"kind": "half_open", "after_s": 10, "for_s": 5}) as one, Peer(one) as peer:
        assert await peer.associate()
        clock.now = START + 11
        peer.send(peer.client.get(ENERGY))
        assert await peer.hears(SILENCE_S) is None
        clock.now = START + 100
        peer.send(b"anything")
        assert await peer.hears(SILENCE_S) is None
        async with Peer(one) as second:
            assert await second.associate()


async def test_a_restart_cuts_off_what_was_connected():
    clock = Hands()
    async with field(clock, {"kind": "reboot", "after_s": 10, "for_s": 5}) as one:
        async with Peer(one) as peer, Peer(one) as idle:
            assert await peer.associate()
            assert await idle.associate()
            clock.now = START + 11
            peer.send(peer.client.get(ENERGY))
            assert await peer.hears() == b""
            async with Peer(one) as meanwhile:
                meanwhile.send(meanwhile.client.associate())
                assert await meanwhile.hears() == b""
            clock.now = START + 16
            idle.send(idle.client.get(ENERGY))
            assert await idle.hears() == b""
        async with Peer(one) as after:
            assert await after.associate()


async def test_what_is_unreachable_is_cut_off_and_meters_on_without_a_word_in_its_logs():
    clock, hours = Hands(), 3600
    away = {"kind": "unreachable", "after_s": 2 * hours, "for_s": 20 * hours}
    async with field(clock, away) as one:
        async with Peer(one) as peer:
            assert await peer.associate()
            clock.now = START + 3 * hours
            peer.send(peer.client.get(ENERGY))
            assert await peer.hears() == b""
        async with Peer(one) as meanwhile:
            assert await meanwhile.hears() == b""  # before it said anything
        clock.now = START + 22 * hours
        async with Peer(one) as after:
            await after.associate()
            assert await after.get() == Consumption(1, 1).at(0, clock.now)
        events, quiet = one.meters[0].meter.events, EventBook(1, 1)
        assert events.entries(STANDARD, clock.now) == quiet.entries(STANDARD, clock.now)


async def test_drift_and_reset_on_a_socket():
    clock = Hands()
    told = ({"kind": "clock_drift", "drift_ppm": 10_000}, {"kind": "counter_reset", "after_s": 10})
    async with field(clock, *told) as one, Peer(one) as peer:
        truth = Consumption(1, 1)
        await peer.associate()
        assert await peer.get() == truth.at(0, START)
        right = await peer.get(CLOCK)
        clock.now = START + 3000
        assert await peer.get() == truth.at(0, START + 3030) - truth.at(0, START + 10)
        assert await peer.get(CLOCK) != right
