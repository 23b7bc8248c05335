"""Links to concentrators that carry one meter's conversation after another's, and those that must not."""

import asyncio
from dataclasses import dataclass, field

import pytest

from headend.session import client as session_client
from headend.session.client import MeterSession
from headend.session.deadlines import Deadlines
from headend.session.kept import KeptLinks
from headend.session.plan import plan_session
from headend.transport.memory import MemoryStream, memory_pair
from protocols.dlms import axdr, gateway, wrapper
from protocols.dlms.apdu import acse
from protocols.dlms.association import GetRequested, ServerAssociation, ServerSettings, Transmit
from protocols.dlms.cosem import Attribute
from protocols.dlms.gateway import Header
from protocols.dlms.obis import Obis
from protocols.errors import LinkClosed, LinkTimeout
from schemas.address import GatewayAddress, LinkAddress
from schemas.model import MeterModel

ENERGY = Attribute(3, Obis.parse("1-0:1.8.0*255"), 2)
FIRST = GatewayAddress(0, b"\x00\x01")
MODEL = MeterModel.model_validate({"name": "test", "title": "Test"})


def place(number):
    return LinkAddress.parse(f"tcp://dc:4059?gateway=0:{number:04X}")


@dataclass
class Concentrator:
    """Takes connections, passes APDUs on to meters that hold their own number; ``dead`` ones are silent."""

    dead: set[int] = field(default_factory=set)
    one_each: bool = False  # a connection serves the meter that was asked first, and is closed for others
    afterwards: bytes = b""  # what it says when a meter has released
    ends: list[MemoryStream] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def dial(self, address, deadline):
        ours, theirs = memory_pair()
        self.ends.append(theirs)
        self.tasks.append(asyncio.create_task(self._serve(theirs)))
        return ours

    async def _serve(self, stream):
        reader, meters = wrapper.WrapperReader(), {}
        while True:
            try:
                reader.feed(await stream.read_some(1e9))
            except LinkClosed:
                return
            while (frame := reader.next()) is not None:
                message = gateway.decode(frame.apdu)
                number = int.from_bytes(message.address.physical, "big")
                if self.one_each and meters and number not in meters:
                    stream.close()
                    return
                meter = meters.setdefault(number, ServerAssociation(ServerSettings()))
                if number in self.dead:
                    continue
                out = b""
                for apdu in self._answers(meter, number, message.apdu):
                    answer = gateway.encode(Header.ANSWER, message.address, apdu)
                    out += wrapper.encode(frame.destination, frame.source, answer)
                stream.write(out + (self.afterwards if message.apdu[0] == acse.RLRQ_TAG else b""))

    @staticmethod
    def _answers(meter, number, apdu):
        for event in meter.receive(apdu):
            if isinstance(event, Transmit):
                yield event.apdu
            elif isinstance(event, GetRequested):
                yield from meter.respond_get([axdr.encode(axdr.u32(number))])


@pytest.fixture
def concentrator(monkeypatch):
    found = Concentrator()
    monkeypatch.setattr(session_client, "dial", found.dial)
    return found


async def read(number, kept):
    plan = plan_session(MODEL, place(number), {}, None)
    async with MeterSession(plan, kept=kept, deadlines=Deadlines(associate_s=5, response_s=5)) as session:
        value = axdr.decode_exact(await session.get(ENERGY)).value
    assert session.release_error is None
    return value


def test_one_link_carries_a_concentrators_meters_after_each_other(run_virtual, concentrator):
    async def main():
        kept = KeptLinks()
        assert [await read(number, kept) for number in (7, 8, 9, 7)] == [7, 8, 9, 7]
        assert len(concentrator.ends) == 1
        assert len(kept) == 1
        kept.close()
        assert not len(kept)
        assert not concentrator.ends[0].is_open

    run_virtual(main())


def test_side_by_side_each_has_its_own(run_virtual, concentrator):
    async def main():
        kept = KeptLinks()
        assert await asyncio.gather(*(read(number, kept) for number in (1, 2, 3))) == [1, 2, 3]
        assert len(concentrator.ends) == len(kept) == 3
        assert await asyncio.gather(*(read(number, kept) for number in (4, 5))) == [4, 5]
        assert len(concentrator.ends) == 3

    run_virtual(main())


def test_a_link_that_nobody_uses_is_closed(run_virtual, concentrator):
    async def main():
        kept = KeptLinks(idle_s=1.0)
        await read(1, kept)
        await asyncio.sleep(0.9)
        assert concentrator.ends[0].is_open
        await asyncio.sleep(0.2)
        assert not len(kept)
        assert not concentrator.ends[0].is_open

    run_virtual(main())


def test_a_meter_s_own_link_is_not_kept(run_virtual):
    async def main():
        kept = KeptLinks()
        ours, theirs = memory_pair()
        kept.give(LinkAddress.parse("tcp://meter:4059"), ours)
        assert not len(kept)
        assert not theirs.is_open
        assert kept.take(LinkAddress.parse("tcp://meter:4059")) is None

    run_virtual(main())


def test_nothing_is_kept_after_a_silence_or_an_abort(run_virtual, concentrator):
    async def main():
        kept = KeptLinks()
        concentrator.dead = {2}
        with pytest.raises(LinkTimeout):
            await read(2, kept)
        assert not len(kept)
        plan = plan_session(MODEL, place(1), {}, None)
        with pytest.raises(ZeroDivisionError):
            async with MeterSession(plan, kept=kept):
                raise ZeroDivisionError
        assert len(kept) == 1  # released in good form, whatever went on inside
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await read(2, kept)
        assert not len(kept)
        assert not any(end.is_open for end in concentrator.ends)

    run_virtual(main())


@pytest.mark.parametrize(
    "late",
    [
        wrapper.encode(1, 16, gateway.encode(Header.ANSWER, FIRST, b"\xc4\x01\xc1\x00\x00")),
        wrapper.encode(1, 16, gateway.UNREACHED),
        b"\x00",
    ],
    ids=["answer", "refusal", "piece"],
)  # fmt: skip
def test_a_link_on_which_something_comes_late_carries_no_other_conversation(run_virtual, concentrator, late):
    async def main():
        kept = KeptLinks()
        concentrator.afterwards = late
        assert [await read(number, kept) for number in (1, 2)] == [1, 2]
        assert len(concentrator.ends) == 2

    run_virtual(main())


def test_nor_one_on_which_something_comes_while_it_is_kept(run_virtual, concentrator):
    async def main():
        kept = KeptLinks()
        await read(1, kept)
        concentrator.ends[0].write(wrapper.encode(1, 16, gateway.UNREACHED))
        assert await read(2, kept) == 2
        assert len(concentrator.ends) == 2
        assert not concentrator.ends[0].is_open

    run_virtual(main())


def test_a_link_that_is_closed_as_it_is_taken_costs_nobody_a_try(run_virtual, concentrator):
    async def main():
        kept = KeptLinks()
        concentrator.one_each = True
        assert [await read(number, kept) for number in range(1, 9)] == list(range(1, 9))
        # three links failed their second meter; after that none is kept
        assert not len(kept)
        assert len(concentrator.ends) == 8

    run_virtual(main())


def test_dead_meters_among_living_ones_do_not_count_against_the_links(run_virtual, concentrator):
    async def main():
        kept = KeptLinks()
        concentrator.dead = {2, 5, 8, 11, 14}
        for number in range(1, 16):
            if number in concentrator.dead:
                with pytest.raises(LinkTimeout):
                    await read(number, kept)
            else:
                assert await read(number, kept) == number
        assert len(kept) == 1
        assert len(concentrator.ends) == 1 + len(concentrator.dead)

    run_virtual(main())


def test_a_concentrator_that_is_silent_to_every_second_meter_is_believed(run_virtual, concentrator):
    async def main():
        kept = KeptLinks()
        for number in range(3):
            await read(1, kept)
            concentrator.dead = {9}
            with pytest.raises(LinkTimeout):
                await read(9, kept)
            assert len(concentrator.ends) == number + 1
        await read(1, kept)
        assert not len(kept)

    run_virtual(main())


def test_what_is_kept_is_bounded(run_virtual):
    async def main():
        kept = KeptLinks(most=3)
        pairs = [memory_pair() for _ in range(5)]
        for number, (ours, _) in enumerate(pairs):
            kept.give(LinkAddress.parse(f"tcp://dc{number}:4059?gateway=0:01"), ours)
        assert len(kept) == 3
        assert [theirs.is_open for _, theirs in pairs] == [False, False, True, True, True]

    run_virtual(main())
