"""The straight way of a simulated meter is the general one: the same bytes, the same state behind them."""

from typing import ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st

from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.profile import PROFILE
from concentrator_sim.security import MODES
from concentrator_sim.station import Station, bus_of
from concentrator_sim.straight import Straight
from protocols.dlms import axdr
from protocols.dlms.apdu.fields import INVOKE, Selection
from protocols.dlms.apdu.get import GetRequestNext
from protocols.dlms.association import (
    CipherSettings,
    ClientAssociation,
    ClientSettings,
    ServerAssociation,
    Transmit,
)
from protocols.dlms.cosem import BY_ENTRY, Attribute, EntryDescriptor
from protocols.dlms.enums import Conformance
from protocols.dlms.obis import Obis
from protocols.errors import CommunicationError

NOW = 1_800_000_123
BUFFER = Attribute(7, PROFILE, 2)
SERIAL = Attribute(1, Obis.parse("0-0:96.1.0"), 2)
UNKNOWN = Attribute(1, Obis.parse("0-0:96.9.9"), 2)
LIST = Attribute(15, Obis.parse("0-0:40.0.0"), 2)


class Pair:
    """One meter twice, of which one never goes the straight way, and a client that hears both."""

    def __init__(self, mode, max_pdu, conformance, own_pdu):
        self.straight, self.general = (SimulatedMeter(3, 7, MODES[mode], max_pdu=max_pdu) for _ in range(2))
        self.stations, self.associations = [], []
        for meter in (self.straight, self.general):
            random = iter(bytes((n,)) * 16 for n in range(1, 250))
            station = Station(bus_of([meter]), lambda: NOW)
            made = meter.associate(meter.management, 1, lambda: NOW)
            object.__setattr__(meter._management, "random", lambda n, random=random: next(random))
            if meter is self.general:
                made = ServerAssociation(
                    meter._management,
                    next_counter=lambda: self.general._next_counter(lambda: NOW),
                    peer_counter=meter._peer,
                )
            self.associations.append(made)
            self.stations.append(station)
        keys = self.straight.keys
        cipher = CipherSettings(b"HEADEND1", keys.encryption, keys.authentication, suite=MODES[mode].suite)
        told = ClientSettings(MODES[mode].mechanism, None, cipher, conformance=conformance, max_pdu=own_pdu)
        self.client = ClientAssociation(told, next_counter=iter(range(1, 9999)).__next__)
        self.last = b""

    def send(self, apdu):
        """Both answer alike, and stand alike afterwards."""
        self.last = apdu
        answers = []
        for station, association in zip(self.stations, self.associations, strict=True):
            station._associations[1, 1] = association  # which it forgets when none stands
            answers.append(station.receive(1, 1, apdu))
        assert answers[0] == answers[1]
        one, other = self.associations
        for name in (
            "state", "conformance", "_services", "_ciphered", "_control", "_key_use", "_limit", "_offer",
            "_party", "_chunks", "_gbt_request", "_asked",
        ):  # fmt: skip
            assert getattr(one, name) == getattr(other, name), name
        assert one._cipher.form is other._cipher.form
        assert one._cipher.peer_title == other._cipher.peer_title
        assert one._cipher.peer_counter.last == other._cipher.peer_counter.last
        assert one._cipher.peer_counter.proven == other._cipher.peer_counter.proven
        assert self.straight.client_title == self.general.client_title
        return answers[0]

    def exchange(self, apdu):
        """Send, and all that the client says to the answers; False where it gave up."""
        waiting = [apdu]
        while waiting:
            for answer in self.send(waiting.pop(0)):
                try:
                    events = self.client.receive(answer)
                except CommunicationError:
                    return False
                waiting += [event.apdu for event in events if isinstance(event, Transmit)]
        return True


class Watched(Straight):
    """Remembers whether each message went straight."""

    __slots__ = ()
    went: ClassVar[list[bool]] = []

    def answer(self, apdu):
        found = super().answer(apdu)
        self.went.append(found is not None)
        return found


STEPS = st.lists(
    st.sampled_from(["buffer", "serial", "list", "unknown", "entry", "release", "again", "block", "cut"]),
    max_size=8,
)
CONFORMANCES = st.sampled_from(
    [
        ClientSettings().conformance,
        Conformance.GET,
        Conformance.GET | Conformance.BLOCK_TRANSFER_WITH_GET_OR_READ,
        Conformance.SET,
    ]
)


def asked(pair, step):
    first = EntryDescriptor(1, 40, 1, 0)
    match step:
        case "buffer":
            return pair.client.get(
                BUFFER, Selection(BY_ENTRY, axdr.encode(EntryDescriptor(1, 96, 1, 0).encode()))
            )
        case "entry":
            return pair.client.get(BUFFER, Selection(BY_ENTRY, axdr.encode(first.encode())))
        case "serial":
            return pair.client.get(SERIAL)
        case "list":
            return pair.client.get(LIST)
        case "unknown":
            return pair.client.get(UNKNOWN)
    return pair.client.release()


@given(
    st.sampled_from(["hls5", "hls5-suite1", "hls5-suite2"]),
    st.sampled_from([128, 256, 1024, 0xFFFF]),
    CONFORMANCES,
    st.sampled_from([0, 64, 300, 1024]),
    STEPS,
    st.integers(0, 10_000),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_both_ways_answer_alike(mode, max_pdu, conformance, own_pdu, steps, place, flips):
    pair = Pair(mode, max_pdu, conformance, own_pdu)
    usable = pair.exchange(pair.client.associate())
    for step in steps:
        if step == "again":  # the same bytes once more
            pair.send(pair.last)
        elif step == "block" and usable:  # amid an answer, the right one or another
            usable = False
            try:
                pair.send(asked(pair, "buffer"))
            except CommunicationError:
                break
            pair.send(pair.client._cipher.seal(GetRequestNext(INVOKE[0xC1], place % 6).to_bytes()))
        elif step == "cut":
            pair.send(pair.last[: 1 + place % len(pair.last)])
        elif usable:
            try:
                apdu = asked(pair, step)
            except CommunicationError:
                break
            if flips:  # somebody was there first, with a wrong bit
                at = place % (8 * len(apdu))
                pair.send(bytes(b ^ (1 << at % 8 if n == at // 8 else 0) for n, b in enumerate(apdu)))
            usable = pair.exchange(apdu)
            if step == "release" and usable:
                usable = pair.exchange(pair.client.associate())


def test_a_night_is_gone_straight():
    pair = Pair("hls5", 1024, ClientSettings().conformance, 1024)
    pair.associations[0].__class__ = Watched
    Watched.went.clear()
    assert pair.exchange(pair.client.associate())
    assert pair.exchange(asked(pair, "buffer"))
    assert pair.exchange(pair.client.release())
    assert Watched.went == [True] * 7
