"""Sessions against a real server association: reading, refusals, lateness, breakage, counters, release."""

import asyncio
import itertools
from dataclasses import replace

import pytest
import uvloop

from headend.links.failures import stage_of
from headend.session.client import MeterSession, Unanswered
from headend.session.deadlines import Deadlines
from headend.session.dial import dial
from headend.session.plan import plan_session
from headend.store.errors import UnavailableError
from headend.transport.memory import memory_pair
from headend.transport.tcp import listen_tcp
from protocols.dlms import axdr
from protocols.dlms.apdu.fields import LongInvokeIdAndPriority, Raw, Selection
from protocols.dlms.apdu.notification import DataNotification, EventNotificationRequest
from protocols.dlms.association import (
    ActionRequested,
    CipherForm,
    CipherSettings,
    MethodOutcome,
    ServerSettings,
)
from protocols.dlms.cosem import Attribute, Method
from protocols.dlms.enums import ActionResult, Conformance, DataAccessResult, Mechanism, SecuritySuite
from protocols.dlms.obis import Obis
from protocols.dlms.security import Key, PeerCounter, Policy, Protection
from protocols.errors import (
    ActionRefused,
    AssociationRejected,
    DataAccessRefused,
    ExceptionResponse,
    LinkClosed,
    LinkError,
    LinkTimeout,
    LocalProtocolError,
    RemoteProtocolError,
    SecurityError,
)
from schemas.address import LinkAddress
from schemas.failure import Stage
from schemas.meter import KeyPurpose
from schemas.model import MeterModel

ENERGY = Attribute(3, Obis.parse("1-0:1.8.0*255"), 2)
EXPORT = Attribute(3, Obis.parse("1-0:2.8.0*255"), 2)
BUFFER = Attribute(7, Obis.parse("1-0:99.1.0*255"), 2)
COUNTER = Attribute(1, Obis.parse("0-0:43.1.0*255"), 2)
NOTHING = Attribute(1, Obis.parse("0-0:96.99.99*255"), 2)
RESET = Method(3, Obis.parse("1-0:1.8.0*255"), 1)
VALUE = axdr.encode(axdr.u32(4711))
LONG = axdr.encode(axdr.octets(bytes(range(256)) * 20))
EK, AK = bytes(range(16)), bytes(range(16, 32))
OURS, THEIRS = b"HEADEND1", b"METER001"
BOTH = Protection.AUTHENTICATED_ENCRYPTED
KEYS = {KeyPurpose.ENCRYPTION: Key(EK), KeyPurpose.AUTHENTICATION: Key(AK)}
ADDRESS = LinkAddress.parse("tcp://192.0.2.1:4059?client=1")
OBJECTS = {ENERGY: VALUE, EXPORT: VALUE, BUFFER: LONG, COUNTER: axdr.encode(axdr.u32(41))}

PLAIN = ServerSettings()
GMAC = ServerSettings(
    mechanisms=frozenset({Mechanism.HLS_GMAC}),
    cipher=CipherSettings(THEIRS, Key(EK), Key(AK)),
    policy=Policy(BOTH, BOTH),
)


def model(**association):
    quirks = association.pop("quirks", {})
    return MeterModel.model_validate(
        {
            "name": "test",
            "title": "Test",
            "association": {"invocation_counter": "0-0:43.1.0*255", **association},
            "quirks": quirks,
        }
    )


def gmac_model(**more):
    return model(mechanism="hls-gmac", protection="authenticated+encrypted", **more)


class Counters:
    """Counters as the database would give them, in blocks of 8."""

    def __init__(self, first=1):
        self.value = first
        self.reserved = first
        self.reservations = 0
        self.raised = []

    @property
    def available(self):
        return self.reserved - self.value

    def next(self):
        if self.value >= self.reserved:
            raise LocalProtocolError("none reserved")
        self.value += 1
        return self.value - 1

    async def reserve(self, count):
        await asyncio.sleep(0)
        self.reservations += 1
        self.reserved = self.value + 8

    async def raise_to(self, value):
        self.raised.append(value)
        self.value = max(self.value, value)
        self.reserved = max(self.reserved, self.value)


def now():
    return asyncio.get_running_loop().time()


def session_with(
    fake_meter, the_model=None, servers=None, objects=None, *, keys=None, address=ADDRESS, **options
):
    hdlc = "hdlc" in str(address)
    ours, theirs = memory_pair()
    plan = plan_session(the_model or model(), address, keys or {}, OURS)
    meter = fake_meter(
        theirs, servers or {1: PLAIN, 16: PLAIN}, dict(OBJECTS if objects is None else objects), hdlc=hdlc
    )
    return MeterSession(plan, stream=ours, **options), meter, ours


# ---- reading --------------------------------------------------------------------------------------


def test_reads_sets_acts_and_releases(run_virtual, fake_meter):
    async def main():
        session, meter, stream = session_with(
            fake_meter, objects=OBJECTS | {RESET: MethodOutcome(ActionResult.SUCCESS)}
        )
        async with session:
            assert await session.get(ENERGY) == VALUE
            assert await session.get(BUFFER) == LONG  # in blocks
            await session.set(ENERGY, axdr.encode(axdr.u32(0)))
            assert await session.get(ENERGY) == axdr.encode(axdr.u32(0))
            assert await session.action(RESET) is None
        assert session.release_error is None
        assert not session.is_usable
        assert [type(e).__name__ for e in meter.events if type(e).__name__ == "ClientReleased"] == [
            "ClientReleased"
        ]
        assert stream.is_open  # the caller's link stays after a clean release
        stream.close()
        await meter.serving

    run_virtual(main())


@pytest.mark.parametrize("window", [None, 3])
def test_long_parameters_go_in_blocks_and_long_answers_come_in_them(run_virtual, fake_meter, window):
    async def main():
        done = MethodOutcome(ActionResult.SUCCESS, LONG)
        session, meter, _ = session_with(
            fake_meter, model(gbt_window=window), objects={**OBJECTS, RESET: done}
        )
        async with session:
            await session.set(ENERGY, LONG)
            assert meter.objects[ENERGY] == LONG
            assert await session.action(RESET, LONG) == LONG
        asked = [event for event in meter.events if isinstance(event, ActionRequested)]
        assert asked[0].parameters == (LONG,)
        assert session.release_error is None

    run_virtual(main())


def test_notifications_amid_answers_are_no_answers_and_are_told(run_virtual, fake_meter):
    data = DataNotification(LongInvokeIdAndPriority(1), None, Raw(VALUE))
    event = EventNotificationRequest(None, ENERGY, Raw(LONG))

    async def main():
        session, meter, _ = session_with(fake_meter)
        async with session:
            meter.meddle = lambda apdu: [data.to_bytes(), apdu, event.to_bytes()]
            assert await session.get(ENERGY) == VALUE
            meter.meddle = lambda apdu: [apdu]
            assert await session.get(EXPORT) == VALUE
            assert [told.apdu for told in session.notifications] == [data, event]
        assert session.release_error is None

    run_virtual(main())


def test_of_too_many_notifications_none_is_dropped(run_virtual, fake_meter):
    event = EventNotificationRequest(None, ENERGY, Raw(VALUE))

    async def main():
        session, meter, _ = session_with(fake_meter)
        async with session:
            meter.meddle = lambda apdu: [event.to_bytes()] * 257
            with pytest.raises(RemoteProtocolError, match="more than 256 notifications"):
                await session.get(ENERGY)
            assert not session.is_usable
        assert len(session.notifications) == 256

    run_virtual(main())


def test_what_a_meter_tells_the_public_client_is_told_too(run_virtual, fake_meter):
    event = EventNotificationRequest(None, ENERGY, Raw(VALUE))

    async def main():
        servers = {1: GMAC, 16: PLAIN}
        session, meter, _ = session_with(
            fake_meter, gmac_model(), servers, keys=KEYS, counters=Counters(), learn_counter=True
        )
        meter.meddle = lambda apdu: [event.to_bytes(), apdu] if apdu[0] == 0xC4 else [apdu]
        async with session:
            (told,) = session.notifications
            assert (told.apdu, told.control) == (event, None)

    run_virtual(main())


def test_refusals_leave_the_session_usable(run_virtual, fake_meter):
    async def main():
        session, _, _ = session_with(fake_meter)
        async with session:
            with pytest.raises(DataAccessRefused, match="object undefined") as caught:
                await session.get(NOTHING)
            assert caught.value.result == DataAccessResult.OBJECT_UNDEFINED
            with pytest.raises(DataAccessRefused):
                await session.set(NOTHING, VALUE)
            with pytest.raises(ActionRefused):
                await session.action(RESET)
            assert session.is_usable
            assert await session.get(ENERGY) == VALUE

    run_virtual(main())


def test_what_is_refused_while_associating_is_the_association(run_virtual, fake_meter):
    async def main():
        session, meter, _ = session_with(fake_meter)
        meter.meddle = lambda apdu: [bytes((0xD8, 1, 2))]
        with pytest.raises(ExceptionResponse) as caught:
            async with session:
                pass
        assert stage_of(caught.value) is Stage.ASSOCIATION

    run_virtual(main())


def test_an_exception_response_is_an_answer_too(run_virtual, fake_meter):
    async def main():
        session, meter, _ = session_with(fake_meter)
        async with session:
            meter.meddle = lambda apdu: [bytes((0xD8, 1, 3))]
            with pytest.raises(ExceptionResponse) as caught:
                await session.get(ENERGY)
            assert stage_of(caught.value) is Stage.ACCESS
            meter.meddle = lambda apdu: [apdu]
            assert await session.get(EXPORT) == VALUE

    run_virtual(main())


@pytest.mark.parametrize(
    ("quirks", "conformance", "lists"),
    [
        ({}, None, 1),
        ({"no_get_with_list": True}, None, 0),
        ({}, PLAIN.conformance & ~Conformance.MULTIPLE_REFERENCES, 0),
    ],
)
def test_get_many_in_a_list_where_the_meter_takes_one(run_virtual, fake_meter, quirks, conformance, lists):
    async def main():
        server = PLAIN if conformance is None else ServerSettings(conformance=conformance)
        session, meter, _ = session_with(fake_meter, model(quirks=quirks), {1: server})
        async with session:
            results = await session.get_many([ENERGY, NOTHING, EXPORT])
            assert results == (VALUE, DataAccessResult.OBJECT_UNDEFINED, VALUE)
            assert await session.get_many([]) == ()
        assert meter.lists == lists

    run_virtual(main())


def test_a_long_list_is_cut_to_the_meters_pdu(run_virtual, fake_meter):
    async def main():
        session, meter, _ = session_with(fake_meter, servers={1: ServerSettings(max_pdu=256)})
        async with session:
            results = await session.get_many([ENERGY] * 50)
            assert results == (VALUE,) * 50
        assert meter.lists == 5  # (256 - 128) / 10 = 12 at a time

    run_virtual(main())


def test_selection_reaches_the_meter(run_virtual, fake_meter):
    async def main():
        session, meter, _ = session_with(fake_meter)
        selection = Selection(
            2, axdr.encode(axdr.structure(axdr.u32(1), axdr.u32(0), axdr.u16(1), axdr.u16(0)))
        )
        async with session:
            await session.get(BUFFER, selection)
        assert meter.asked[-1].selection == selection

    run_virtual(main())


def test_over_hdlc(run_virtual, fake_meter):
    async def main():
        session, meter, stream = session_with(
            fake_meter, address=LinkAddress.parse("hdlc+tcp://192.0.2.1:4001?client=1")
        )
        async with session:
            assert await session.get(ENERGY) == VALUE
            assert await session.get(BUFFER) == LONG
        assert session.release_error is None
        assert {str(link.state) for link in meter.links.values()} == {"disconnected"}
        stream.close()
        await meter.serving

    run_virtual(main())


def test_ciphered_reads_reserve_counters_before_use(run_virtual, fake_meter):
    async def main():
        counters, peer = Counters(), PeerCounter()
        session, _, _ = session_with(
            fake_meter, gmac_model(), {1: GMAC}, keys=KEYS, counters=counters, peer_counter=peer
        )
        async with session:
            assert session.associated.server_system_title == THEIRS
            for _ in range(5):
                assert await session.get(BUFFER) == LONG
        assert session.release_error is None
        assert counters.reservations > 3
        assert peer.proven is not None
        assert peer.proven > 0

    run_virtual(main())


def test_a_ciphered_session_without_counters_is_a_defect_of_ours(run_virtual, fake_meter):
    async def main():
        session, _, stream = session_with(fake_meter, gmac_model(), {1: GMAC}, keys=KEYS)
        with pytest.raises(LocalProtocolError, match="no invocation counters"):
            async with session:
                pass
        assert not stream.is_open

    run_virtual(main())


# ---- what goes wrong ------------------------------------------------------------------------------


def test_a_late_answer_is_never_taken_for_the_next_request(run_virtual, fake_meter):
    async def main():
        session, meter, stream = session_with(fake_meter, deadlines=Deadlines(response_s=5))
        held = []
        async with session:
            meter.meddle = lambda apdu: held.append(apdu) or []
            with pytest.raises(LinkTimeout):
                await session.get(ENERGY)
            meter.meddle = lambda apdu: [apdu]
            assert held
            meter.send(1, held[0])
            with pytest.raises(LocalProtocolError, match="LinkTimeout"):
                await session.get(EXPORT)
        assert not stream.is_open

    run_virtual(main())


@pytest.mark.parametrize("servers", [{1: PLAIN}, {1: GMAC, 16: PLAIN}], ids=["plain", "ciphered"])
def test_a_get_that_is_not_answered_is_made_once_more(run_virtual, fake_meter, servers):
    """And the answer to the first, which comes late, is not taken for that to the second."""

    async def main():
        ciphered = servers[1] is GMAC
        session, meter, _ = session_with(
            fake_meter,
            gmac_model() if ciphered else model(),
            servers,
            keys=KEYS if ciphered else None,
            deadlines=Deadlines(response_s=5),
            counters=Counters() if ciphered else None,
        )
        values = iter([axdr.encode(axdr.u32(1)), axdr.encode(axdr.u32(2)), VALUE])
        meter.objects[ENERGY] = lambda item: next(values)
        async with session:
            held = []

            def late(apdu):
                held.append(apdu)
                return [] if len(held) == 1 else held

            meter.meddle = late
            start = now()
            assert await session.get(ENERGY) == axdr.encode(axdr.u32(2))
            assert now() - start == pytest.approx(5)
            meter.meddle = lambda apdu: [apdu]
            assert await session.get(ENERGY) == VALUE
        assert (session.unanswered, session.stale, session.release_error) == (1, 1, None)

    run_virtual(main())


def test_a_long_get_that_stops_in_the_middle_is_made_anew(run_virtual, fake_meter):
    async def main():
        session, meter, _ = session_with(fake_meter, servers={1: replace(PLAIN, max_pdu=1024)})
        async with session:
            seen = []
            meter.meddle = lambda apdu: seen.append(apdu) or ([] if len(seen) == 3 else [apdu])
            assert await session.get(BUFFER) == LONG
        assert session.unanswered == 1

    run_virtual(main())


@pytest.mark.parametrize("what", ["set", "action"])
def test_what_changes_something_is_asked_once(run_virtual, fake_meter, what):
    async def main():
        session, meter, stream = session_with(
            fake_meter, objects=OBJECTS | {RESET: MethodOutcome(ActionResult.SUCCESS)}
        )
        async with session:
            lost = []
            meter.meddle = lambda apdu: lost.append(apdu) or []
            with pytest.raises(LinkTimeout):
                await (session.set(ENERGY, VALUE) if what == "set" else session.action(RESET))
            assert len(lost) == 1
            assert not session.is_usable
        assert not stream.is_open

    run_virtual(main())


def test_an_action_that_may_be_lost_leaves_the_session_usable(run_virtual, fake_meter):
    async def main():
        session, meter, _ = session_with(
            fake_meter, objects=OBJECTS | {RESET: MethodOutcome(ActionResult.SUCCESS)}
        )
        async with session:
            held = []
            meter.meddle = lambda apdu: held.append(apdu) or []
            with pytest.raises(Unanswered):
                await session.action(RESET, may_be_lost=True)
            meter.meddle = lambda apdu: [held[0], apdu]
            assert await session.get(ENERGY) == VALUE
            meter.objects[RESET] = MethodOutcome(ActionResult.OTHER_REASON)
            with pytest.raises(ActionRefused):
                await session.action(RESET, may_be_lost=True)
        assert session.stale == 3  # with each of two answers, and that to the release

    run_virtual(main())


def test_alike_actions_are_waited_for_as_long_as_those_before_let_expect(run_virtual, fake_meter):
    async def main():
        session, meter, _ = session_with(
            fake_meter, objects=OBJECTS | {RESET: MethodOutcome(ActionResult.SUCCESS)}
        )

        async def lost():
            start = now()
            meter.meddle = lambda apdu: []
            with pytest.raises(Unanswered):
                await session.action(RESET, may_be_lost=True)
            meter.meddle = lambda apdu: [apdu]
            return now() - start

        async with session:
            assert await lost() == pytest.approx(Deadlines().response_s)  # nothing is known of them
            for _ in range(8):
                await session.action(RESET, may_be_lost=True)
            waits = [await lost() for _ in range(6)]
            assert waits == pytest.approx([1, 2, 4, 8, 16, Deadlines().response_s])
            await session.action(RESET, may_be_lost=True)
            assert await lost() == pytest.approx(1)

    run_virtual(main())


@pytest.mark.parametrize("what", ["half", "hdlc", "general blocks"])
def test_where_late_answers_cannot_be_told_apart_silence_ends_the_session(run_virtual, fake_meter, what):
    async def main():
        session, meter, _ = session_with(
            fake_meter,
            model(gbt_window=6) if what == "general blocks" else None,
            address=LinkAddress.parse("hdlc+tcp://192.0.2.1:4001?client=1") if what == "hdlc" else ADDRESS,
        )
        async with session:
            meter.meddle = lambda apdu: []
            if what == "half":
                meter.meddle = lambda apdu: meter.stream.write(b"\0\1\0\1\0\1\0\x20half") or []
            with pytest.raises(LinkTimeout) as told:
                await session.get(ENERGY)
            assert not isinstance(told.value, Unanswered)
            assert len(meter.asked) == 1
            assert not session.is_usable

    run_virtual(main())


def test_stale_answers_are_counted_and_passed_over(run_virtual, fake_meter):
    async def main():
        session, meter, _ = session_with(fake_meter)
        async with session:
            first = []
            meter.meddle = lambda apdu: first.append(apdu) or [apdu]
            await session.get(ENERGY)
            meter.meddle = lambda apdu: [first[0], apdu, apdu]
            meter.objects[EXPORT] = axdr.encode(axdr.u32(2))
            assert await session.get(EXPORT) == axdr.encode(axdr.u32(2))
            meter.meddle = lambda apdu: [apdu]
            assert await session.get(ENERGY) == VALUE
        assert session.stale == 2

    run_virtual(main())


def test_a_flood_of_stale_answers_does_not_outlast_the_deadline(run_virtual, fake_meter):
    async def main():
        session, meter, _ = session_with(fake_meter, deadlines=Deadlines(response_s=5))
        async with session:
            answers = []
            meter.meddle = lambda apdu: answers.append(apdu) or [apdu]
            await session.get(ENERGY)
            meter.meddle = lambda apdu: []

            async def flood():
                while True:
                    meter.send(1, answers[0])
                    await asyncio.sleep(0.01)

            flooding = asyncio.ensure_future(flood())
            start = now()
            with pytest.raises(LinkTimeout):
                await session.get(EXPORT)
            assert now() - start == pytest.approx(2 * 5, abs=0.1)  # it is asked twice
            flooding.cancel()
        assert session.stale > 400

    run_virtual(main())


def test_each_block_has_its_time_and_the_session_an_end(run_virtual, fake_meter):
    async def main():
        session, meter, _ = session_with(fake_meter, deadlines=Deadlines(response_s=5, session_s=12))
        loop = asyncio.get_running_loop()

        def late(apdu):
            loop.call_later(4, meter.send, 1, apdu)
            return []

        async with session:
            start = now()
            meter.meddle = late
            with pytest.raises(LinkTimeout):  # six blocks of 4 s each are 24 s
                await session.get(BUFFER)
            assert now() - start == pytest.approx(12)

    run_virtual(main())


@pytest.mark.parametrize("lost", [0, 1, 4, 5])
def test_lost_general_blocks_are_asked_for_again(run_virtual, fake_meter, lost):
    """One block of a window of six is lost: in the middle an acknowledgement tells, at its end nobody."""

    async def main():
        session, meter, _ = session_with(
            fake_meter, model(gbt_window=6), {1: replace(PLAIN, max_pdu=1024)}, deadlines=Deadlines(frame_s=2)
        )
        async with session:
            seen = []

            def meddle(apdu):
                seen.append(apdu[0])
                return [] if len(seen) == lost + 1 and lost else [apdu]

            meter.meddle = meddle
            start = now()
            assert await session.get(BUFFER) == LONG
            assert set(seen) == {0xE0}
            assert now() - start == pytest.approx(2 if lost == 5 else 0)
            assert await session.get(ENERGY) == VALUE
        assert session.release_error is None

    run_virtual(main())


def test_a_meter_that_is_gone_amid_general_blocks_is_not_asked_for_ever(run_virtual, fake_meter):
    async def main():
        session, meter, stream = session_with(
            fake_meter, model(gbt_window=6), deadlines=Deadlines(frame_s=2, response_s=30)
        )
        async with session:
            seen = []
            meter.meddle = lambda apdu: [] if seen or seen.append(apdu) else [apdu]
            start = now()
            with pytest.raises(LinkTimeout):
                await session.get(BUFFER)
            assert now() - start == pytest.approx(30)
        assert not stream.is_open

    run_virtual(main())


def test_timeout_s_bounds_one_answer(run_virtual, fake_meter):
    async def main():
        session, meter, _ = session_with(fake_meter)
        async with session:
            meter.meddle = lambda apdu: []
            start = now()
            with pytest.raises(LinkTimeout):
                await session.get(ENERGY, timeout_s=2)
            assert now() - start == pytest.approx(2 * 2)  # it is asked twice

    run_virtual(main())


def test_a_cancelled_wait_ends_the_session(run_virtual, fake_meter):
    async def main():
        session, meter, stream = session_with(fake_meter)
        async with session:
            meter.meddle = lambda apdu: []
            waiting = asyncio.ensure_future(session.get(ENERGY))
            await asyncio.sleep(1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert not session.is_usable
            with pytest.raises(LocalProtocolError):
                await session.get(EXPORT)
        assert not stream.is_open

    run_virtual(main())


def test_two_requests_at_once_are_a_defect_of_ours(run_virtual, fake_meter):
    async def main():
        session, _, _ = session_with(fake_meter)
        async with session:
            first = asyncio.ensure_future(session.get(ENERGY))
            await asyncio.sleep(0)
            with pytest.raises(LocalProtocolError, match="under way"):
                await session.get(EXPORT)
            assert await first == VALUE

    run_virtual(main())


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("close", LinkClosed),
        ("garbage", RemoteProtocolError),
        ("half", LinkTimeout),
        ("unknown apdu", RemoteProtocolError),
    ],
)
def test_breakage_in_the_middle(run_virtual, fake_meter, what, error):
    async def main():
        session, meter, stream = session_with(fake_meter)

        def meddle(apdu):
            match what:
                case "close":
                    meter.stream.write(b"\x00\x01\x00\x01\x00\x01\x00\xff\xc4")
                    meter.stream.close()
                case "garbage":
                    meter.stream.write(b"\xff" * 50)
                case "half":
                    meter.stream.write(b"\x00\x01\x00\x01\x00\x01\x00\xff\xc4")
                case "unknown apdu":
                    return [b"\xc4\x09\xc1\x00"]
            return []

        async with session:
            meter.meddle = meddle
            with pytest.raises(error):
                await session.get(ENERGY)
            assert not session.is_usable
        assert not stream.is_open

    run_virtual(main())


def test_the_first_error_is_not_masked_by_the_release(run_virtual, fake_meter):
    async def main():
        session, meter, _ = session_with(fake_meter)

        async def fail():
            async with session:
                meter.meddle = lambda apdu: []  # also the RLRE never comes
                _ = 1 // 0

        with pytest.raises(ZeroDivisionError):
            await fail()
        assert isinstance(session.release_error, LinkTimeout)

    run_virtual(main())


def test_release_is_bounded_and_the_data_stays(run_virtual, fake_meter):
    async def main():
        session, meter, stream = session_with(fake_meter, deadlines=Deadlines(release_s=3))
        async with session:
            value = await session.get(ENERGY)
            meter.meddle = lambda apdu: []
            start = now()
        assert now() - start == pytest.approx(3)
        assert value == VALUE
        assert isinstance(session.release_error, LinkTimeout)
        assert not stream.is_open

    run_virtual(main())


def test_a_release_waits_no_longer_than_any_answer(run_virtual, fake_meter):
    async def main():
        session, meter, stream = session_with(fake_meter, answer_s=1.5)
        async with session:
            meter.meddle = lambda apdu: []
            start = now()
        assert now() - start == pytest.approx(1.5)
        assert isinstance(session.release_error, LinkTimeout)
        assert not stream.is_open

    run_virtual(main())


def test_a_database_that_is_away_or_slow_at_the_release_costs_no_data(run_virtual, fake_meter):
    class Away(Counters):
        stop = None

        async def reserve(self, count):
            if self.stop == "away":
                raise UnavailableError("the database is away")
            if self.stop == "slow":
                await asyncio.get_running_loop().create_future()
            await super().reserve(count)

    async def main(stop, error):
        counters = Away()
        session, _, stream = session_with(fake_meter, gmac_model(), {1: GMAC}, keys=KEYS, counters=counters)
        async with session:
            value = await session.get(ENERGY)
            counters.stop, counters.reserved = stop, counters.value
        assert value == VALUE
        assert isinstance(session.release_error, error)
        assert not stream.is_open

    run_virtual(main("away", UnavailableError))
    run_virtual(main("slow", LocalProtocolError))


def test_counters_that_do_not_come_end_the_session_at_its_deadline(run_virtual, fake_meter):
    class Stuck(Counters):
        async def reserve(self, count):
            await asyncio.get_running_loop().create_future()

    async def main():
        session, _, stream = session_with(
            fake_meter,
            gmac_model(),
            {1: GMAC},
            keys=KEYS,
            counters=Stuck(),
            deadlines=Deadlines(session_s=60),
        )
        start = now()
        with pytest.raises(LocalProtocolError, match="no invocation counters"):
            await session.__aenter__()
        assert now() - start == pytest.approx(60)
        assert not stream.is_open

    run_virtual(main())


def test_cancelled_from_outside_still_releases(run_virtual, fake_meter):
    async def main():
        session, meter, _ = session_with(fake_meter)

        async def hold():
            async with session:
                await asyncio.get_running_loop().create_future()

        holding = asyncio.ensure_future(hold())
        await asyncio.sleep(1)
        holding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await holding
        assert any(type(e).__name__ == "ClientReleased" for e in meter.events)

    run_virtual(main())


def test_a_rejected_association_closes_the_link(run_virtual, fake_meter):
    async def main():
        lls = ServerSettings(mechanisms=frozenset({Mechanism.LLS}), secrets={Mechanism.LLS: Key(b"right")})
        session, _, stream = session_with(
            fake_meter, model(mechanism="lls"), {1: lls}, keys={KeyPurpose.LLS: Key(b"wrong")}
        )
        with pytest.raises(AssociationRejected):
            async with session:
                pass
        assert not stream.is_open
        with pytest.raises(LocalProtocolError):
            await session.get(ENERGY)

    run_virtual(main())


def test_silence_at_the_aarq(run_virtual, fake_meter):
    async def main():
        session, meter, stream = session_with(fake_meter, deadlines=Deadlines(associate_s=7))
        meter.meddle = lambda apdu: []
        start = now()
        with pytest.raises(LinkTimeout):
            async with session:
                pass
        assert now() - start == pytest.approx(7)
        assert not stream.is_open

    run_virtual(main())


def test_a_tampered_answer_ends_the_session(run_virtual, fake_meter):
    async def main():
        session, meter, stream = session_with(
            fake_meter, gmac_model(), {1: GMAC}, keys=KEYS, counters=Counters()
        )
        async with session:
            meter.meddle = lambda apdu: [apdu[:-1] + bytes((apdu[-1] ^ 1,))]
            with pytest.raises(SecurityError):
                await session.get(ENERGY)
        assert not stream.is_open

    run_virtual(main())


# ---- invocation counters --------------------------------------------------------------------------


def test_the_counter_is_learnt_by_the_public_client_when_asked_for(run_virtual, fake_meter):
    async def main():
        counters = Counters()
        session, meter, _ = session_with(
            fake_meter, gmac_model(), {1: GMAC, 16: PLAIN}, keys=KEYS, counters=counters, learn_counter=True
        )
        async with session:
            await session.get(ENERGY)
        assert counters.raised == [42]
        assert meter.asked[0].attribute == COUNTER

    run_virtual(main())


def test_an_exception_response_that_tells_the_counter_is_followed_once(run_virtual, fake_meter):
    async def main():
        counters = Counters(first=5)
        session, meter, _ = session_with(fake_meter, gmac_model(), {1: GMAC}, keys=KEYS, counters=counters)
        meter.associations[1]._cipher.peer_counter.last = 1000
        async with session:
            assert await session.get(ENERGY) == VALUE
        assert counters.raised == [1001]

    run_virtual(main())


def test_an_exception_response_without_the_counter_makes_us_read_it(run_virtual, fake_meter):
    async def main():
        counters = Counters()
        session, meter, _ = session_with(
            fake_meter, gmac_model(), {1: GMAC, 16: PLAIN}, keys=KEYS, counters=counters
        )
        answers = itertools.chain([[bytes((0xD8, 1, 5))]], itertools.repeat(None))

        def meddle(apdu):
            first = next(answers)
            return [apdu] if first is None else first

        meter.meddle = meddle
        async with session:
            assert await session.get(ENERGY) == VALUE
        assert counters.raised == [42]

    run_virtual(main())


def test_a_meter_that_always_says_no_is_asked_twice_and_no_more(run_virtual, fake_meter):
    async def main():
        session, meter, _ = session_with(fake_meter, gmac_model(), {1: GMAC}, keys=KEYS, counters=Counters())
        count = []
        meter.meddle = lambda apdu: count.append(1) or [bytes((0xD8, 1, 6, 0, 0, 1, 0))]
        with pytest.raises(ExceptionResponse):
            async with session:
                pass
        assert len(count) == 2

    run_virtual(main())


# ---- dialling -------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop_factory", [asyncio.SelectorEventLoop, uvloop.new_event_loop])
def test_over_real_tcp_the_link_is_opened_and_closed(fake_meter, loop_factory):
    async def main():
        meters = []

        def opened(stream):
            meters.append(fake_meter(stream, {1: GMAC, 16: PLAIN}, dict(OBJECTS)))

        server = await listen_tcp("127.0.0.1", 0, opened)
        port = server.sockets[0].getsockname()[1]
        plan = plan_session(gmac_model(), LinkAddress.parse(f"tcp://127.0.0.1:{port}?client=1"), KEYS, OURS)
        counters = Counters()
        async with MeterSession(plan, counters=counters, learn_counter=True) as session:
            assert await session.get(BUFFER) == LONG
        assert session.release_error is None
        for meter in meters:
            await meter.serving  # ends when our side has closed
        assert len(meters) == 1
        server.close()
        await server.wait_closed()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_a_wrong_counter_over_tcp_dials_anew(fake_meter):
    async def main():
        meters = []

        def opened(stream):
            meter = fake_meter(stream, {1: GMAC, 16: PLAIN}, dict(OBJECTS))
            meter.associations[1]._cipher.peer_counter.last = 1000
            meters.append(meter)

        server = await listen_tcp("127.0.0.1", 0, opened)
        port = server.sockets[0].getsockname()[1]
        plan = plan_session(gmac_model(), LinkAddress.parse(f"tcp://127.0.0.1:{port}?client=1"), KEYS, OURS)
        counters = Counters()
        async with MeterSession(plan, counters=counters) as session:
            assert await session.get(ENERGY) == VALUE
        for meter in meters:
            await meter.serving
        assert len(meters) == 2
        assert counters.raised == [1001]
        server.close()
        await server.wait_closed()

    asyncio.run(main())


def test_inbound_meters_cannot_be_dialled():
    async def main():
        with pytest.raises(LocalProtocolError, match="calls us"):
            await dial(LinkAddress.parse("inbound:"), 0.0)
        with pytest.raises(LinkError, match="no-such-line"):
            await dial(LinkAddress.parse("hdlc+serial:///dev/no-such-line"), 0.0)

    asyncio.run(main())


def test_repr_has_no_secrets(fake_meter, run_virtual):
    async def main():
        session, _, _ = session_with(fake_meter, gmac_model(), {1: GMAC}, keys=KEYS, counters=Counters())
        text = repr(session) + repr(session.plan)
        assert EK.hex() not in text.lower()
        assert repr(EK)[2:-1] not in text
        assert "192.0.2.1" in text

    run_virtual(main())


# ---- plans ----------------------------------------------------------------------------------------


def test_a_missing_key_is_named():
    with pytest.raises(LocalProtocolError, match="encryption key is not stored"):
        plan_session(gmac_model(), ADDRESS, {}, OURS)
    with pytest.raises(LocalProtocolError, match="lls key"):
        plan_session(model(mechanism="lls"), ADDRESS, {}, OURS)
    with pytest.raises(LocalProtocolError, match="hls key"):
        plan_session(model(mechanism="hls-sha256"), ADDRESS, {}, OURS)
    with pytest.raises(LocalProtocolError, match="system title"):
        plan_session(gmac_model(), ADDRESS, KEYS, None)


def test_the_address_goes_before_the_model():
    plan = plan_session(
        model(client_sap=3, server_sap=4), LinkAddress.parse("hdlc+tcp://h:1?physical=99&server=0"), {}, None
    )
    assert (plan.client_sap, plan.server_sap) == (3, 0)
    assert plan.hdlc is not None
    assert plan.hdlc.physical_address == 99
    assert plan_session(model(), ADDRESS, {}, None).hdlc is None
    assert plan_session(model(framing="hdlc"), LinkAddress.parse("inbound:"), {}, None).hdlc is not None


def test_forms_and_mechanisms_follow_the_model():
    plan = plan_session(gmac_model(ciphering="general", dedicated_key=True, suite=1), ADDRESS, KEYS, OURS)
    assert plan.settings.cipher.form is CipherForm.GENERAL
    assert plan.settings.cipher.use_dedicated_key
    assert plan.settings.ciphered
    assert plan.uses_counter
    assert not plan.public().uses_counter
    bare = plan_session(model(mechanism="hls-gmac"), ADDRESS, KEYS, OURS)
    assert not bare.settings.ciphered
    assert bare.uses_counter


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("suite", [0, 1, 2])
def test_general_ciphering_with_identified_and_wrapped_keys(run_virtual, fake_meter, wrapped, suite):
    async def main():
        ek, ak, kek = (Key(bytes(range(n, n + (32 if suite == 2 else 16)))) for n in (1, 2, 3))
        keys = {KeyPurpose.ENCRYPTION: ek, KeyPurpose.AUTHENTICATION: ak, KeyPurpose.MASTER: kek}
        form = "general-ciphering-wrapped" if wrapped else "general-ciphering"
        server = replace(
            GMAC, cipher=CipherSettings(THEIRS, ek, ak, suite=SecuritySuite(suite), master_key=kek)
        )
        the_model = gmac_model(ciphering=form, suite=suite)
        session, meter, _ = session_with(fake_meter, the_model, {1: server}, keys=keys, counters=Counters())
        asked = []
        receive = meter.associations[1].receive
        meter.associations[1] = Spy(meter.associations[1], lambda apdu: asked.append(apdu) or receive(apdu))
        async with session:
            assert await session.get(ENERGY) == VALUE
            assert await session.get(BUFFER) == LONG
        assert session.release_error is None
        assert {apdu[0] for apdu in asked} == {0x60, 0xDD, 0x62}
        if wrapped:
            del keys[KeyPurpose.MASTER]
            with pytest.raises(LocalProtocolError, match="master key is not stored"):
                plan_session(the_model, ADDRESS, keys, OURS)

    run_virtual(main())


class Spy:
    """A server association whose ``receive`` is ours."""

    def __init__(self, server, receive):
        self._server = server
        self.receive = receive

    def __getattr__(self, name):
        return getattr(self._server, name)


@pytest.mark.parametrize("mechanism", ["hls-md5", "hls-sha1", "hls-sha256", "hls-gmac"])
def test_other_mechanisms_associate(run_virtual, fake_meter, mechanism):
    async def main():
        number = {"hls-md5": 3, "hls-sha1": 4, "hls-gmac": 5, "hls-sha256": 6}[mechanism]
        server = ServerSettings(
            mechanisms=frozenset({Mechanism(number)}),
            secrets={Mechanism(number): Key(b"secret")},
            cipher=CipherSettings(THEIRS, Key(EK), Key(AK)),
        )
        session, _, _ = session_with(
            fake_meter,
            model(mechanism=mechanism),
            {1: server},
            keys=KEYS | {KeyPurpose.HLS: Key(b"secret")},
            counters=Counters(),
        )
        async with session:
            assert await session.get(ENERGY) == VALUE
        assert session.release_error is None

    run_virtual(main())
