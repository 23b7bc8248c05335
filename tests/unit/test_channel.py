"""APDU channels: filtering, cut and dirty streams, silence in the middle, HDLC repetitions and its end."""

import asyncio

import pytest

from headend.session.channel import UdpWrapperChannel, WrapperChannel
from headend.session.deadlines import Deadlines
from headend.session.hdlc import HdlcChannel
from headend.transport.memory import memory_pair
from protocols.dlms import wrapper
from protocols.dlms.hdlc import (
    FrameType,
    HdlcAddress,
    encode_frame,
    server_address,
    u_control,
)
from protocols.dlms.hdlc_server import HdlcServerLink
from protocols.dlms.hdlc_states import Apdu, Transmit
from protocols.errors import LinkClosed, LinkTimeout, LocalProtocolError, RemoteProtocolError
from schemas.model import Hdlc

DEADLINES = Deadlines()
APDU = bytes.fromhex("c401c1000600bc614e")


def in_s(seconds):
    return asyncio.get_running_loop().time() + seconds


def channel(kind=WrapperChannel, **options):
    ours, theirs = memory_pair(**options)
    return kind(ours, client=1, server=17, deadlines=DEADLINES), theirs


def test_wrapper_sends_a_frame_between_the_two_wports(run_virtual):
    async def main():
        link, meter = channel()
        await link.open(in_s(1))
        await link.send(APDU, in_s(1))
        assert await meter.read_some(in_s(1)) == wrapper.encode(1, 17, APDU)
        await link.close(in_s(1))
        assert link.peer == "memory:meter"

    run_virtual(main())


def test_frames_of_others_are_ignored_and_counted(run_virtual):
    async def main():
        link, meter = channel()
        meter.write(wrapper.encode(17, 2, b"\xc4other client"))
        meter.write(wrapper.encode(18, 1, b"\xc4other device") + wrapper.encode(17, 1, APDU))
        assert await link.receive(in_s(1)) == APDU
        assert link.ignored == 2

    run_virtual(main())


def test_frames_come_whole_and_byte_by_byte_and_with_the_next_behind(run_virtual):
    async def main():
        link, meter = channel()
        frame = wrapper.encode(17, 1, APDU)
        meter.write(frame + frame + frame[:3])
        assert await link.receive(in_s(1)) == APDU
        assert await link.receive(in_s(1)) == APDU
        waiting = asyncio.ensure_future(link.receive(in_s(60)))
        for byte in frame[3:]:
            await asyncio.sleep(1)
            meter.write(bytes((byte,)))
        assert await waiting == APDU

    run_virtual(main())


def test_silence_in_the_middle_of_a_frame_ends_the_wait_early(run_virtual):
    async def main():
        link, meter = channel()
        meter.write(wrapper.encode(17, 1, APDU)[:9])
        start = asyncio.get_running_loop().time()
        with pytest.raises(LinkTimeout, match="in the middle of a frame, after 9 bytes"):
            await link.receive(in_s(60))
        assert asyncio.get_running_loop().time() - start == pytest.approx(DEADLINES.gap_s)

    run_virtual(main())


def test_no_answer_waits_until_the_deadline(run_virtual):
    async def main():
        link, _ = channel()
        start = asyncio.get_running_loop().time()
        with pytest.raises(LinkTimeout):
            await link.receive(in_s(60))
        assert asyncio.get_running_loop().time() - start == pytest.approx(60)

    run_virtual(main())


def test_the_peer_closes_in_the_middle_of_an_apdu(run_virtual):
    async def main():
        link, meter = channel()
        meter.write(wrapper.encode(17, 1, APDU)[:-1])
        meter.close()
        with pytest.raises(LinkClosed):
            await link.receive(in_s(60))

    run_virtual(main())


def test_garbage_on_tcp_is_the_peers_fault(run_virtual):
    async def main():
        link, meter = channel()
        meter.write(b"HTTP/1.1 400 Bad Request\r\n")
        with pytest.raises(RemoteProtocolError, match="wrapper version"):
            await link.receive(in_s(60))

    run_virtual(main())


def test_a_datagram_that_is_no_frame_is_dropped_and_the_next_one_read(run_virtual):
    async def main():
        link, meter = channel(UdpWrapperChannel, datagrams=True)
        frame = wrapper.encode(17, 1, APDU)
        for bad in (frame[:-1], frame + b"x", b"\xff" * 20, b"\x00", wrapper.encode(17, 9, APDU)):
            meter.write(bad)
        meter.write(frame)
        assert await link.receive(in_s(1)) == APDU
        assert link.ignored == 5
        with pytest.raises(LinkTimeout):
            await link.receive(in_s(1))

    run_virtual(main())


# ---- HDLC -----------------------------------------------------------------------------------------


class HdlcMeter:
    """A server link on the other end. ``lose`` counts frames of the client that it shall not see."""

    def __init__(self, stream, *, answer=b"\xc4" + bytes(range(250)), lose=0):
        self.stream = stream
        self.link = HdlcServerLink(server_address(1, 17, 4), HdlcAddress(16))
        self.answer = answer
        self.lose = lose
        self.got = []
        self.reads = 0

    async def serve(self):
        while True:
            try:
                data = await self.stream.read_some(in_s(10_000))
            except LinkClosed:
                return
            self.reads += 1
            if self.lose:
                self.lose -= 1
                continue
            events = self.link.receive(data)
            for event in events:
                if isinstance(event, Apdu):
                    self.got.append(event.data)
                    self.write(self.link.send(self.answer))
            self.write(events)

    def write(self, events):
        for event in events:
            if isinstance(event, Transmit):
                self.stream.write(event.data)


def hdlc(**options):
    ours, theirs = memory_pair()
    link = HdlcChannel(ours, client=16, server=1, parameters=Hdlc(), deadlines=DEADLINES)
    meter = HdlcMeter(theirs, **options)
    return ours, link, meter, asyncio.ensure_future(meter.serve())


def test_hdlc_connects_exchanges_segments_and_disconnects(run_virtual):
    async def main():
        ours, link, meter, serving = hdlc()
        await link.open(in_s(15))
        for _ in range(3):
            await link.send(b"\xc0" + bytes(300), in_s(15))
            assert await link.receive(in_s(15)) == meter.answer
        assert meter.got == [b"\xc0" + bytes(300)] * 3
        await link.close(in_s(5))
        await link.close(in_s(5))
        with pytest.raises(LocalProtocolError):
            await link.send(b"\xc0", in_s(1))
        ours.close()
        await serving

    run_virtual(main())


def test_hdlc_sends_again_what_is_not_answered(run_virtual):
    async def main():
        ours, link, meter, serving = hdlc(lose=1)
        start = asyncio.get_running_loop().time()
        await link.open(in_s(15))
        assert asyncio.get_running_loop().time() - start == pytest.approx(DEADLINES.frame_s)
        meter.lose = 1
        await link.send(b"\xc0\x01", in_s(15))
        assert await link.receive(in_s(15)) == meter.answer
        assert meter.got == [b"\xc0\x01"]
        ours.close()
        await serving

    run_virtual(main())


def test_hdlc_gives_up_after_its_repetitions(run_virtual):
    async def main():
        ours, link, meter, serving = hdlc(lose=1000)
        with pytest.raises(LinkTimeout, match="no answer"):
            await link.open(in_s(1000))
        assert meter.reads == 4  # once, and three times again
        ours.close()
        await serving

    run_virtual(main())


def test_hdlc_keeps_the_deadline(run_virtual):
    async def main():
        ours, link, meter, serving = hdlc(lose=1000)
        start = asyncio.get_running_loop().time()
        with pytest.raises(LinkTimeout):
            await link.open(in_s(7))
        assert asyncio.get_running_loop().time() - start == pytest.approx(7)
        await asyncio.sleep(0)
        assert meter.reads == 2  # at 0 and 5 s, and no frame more when the time is up
        ours.close()
        await serving

    run_virtual(main())


def test_hdlc_line_noise_is_counted_and_passed_over(run_virtual):
    async def main():
        ours, link, meter, serving = hdlc()
        meter.stream.write(b"\x00\xffnoise\x7e\xa0\x01")
        await link.open(in_s(15))
        await link.send(b"\xc0\x01", in_s(15))
        assert await link.receive(in_s(15)) == meter.answer
        assert link.ignored
        ours.close()
        await serving

    run_virtual(main())


@pytest.mark.parametrize(
    ("frame_type", "information", "error"),
    [(FrameType.DM, b"", LinkClosed), (FrameType.FRMR, b"\x93\x00\x01", RemoteProtocolError)],
)
def test_hdlc_a_server_that_says_no(run_virtual, frame_type, information, error):
    async def main():
        ours, theirs = memory_pair()
        link = HdlcChannel(ours, client=16, server=1, parameters=Hdlc(), deadlines=DEADLINES)
        theirs.write(
            encode_frame(
                HdlcAddress(16), server_address(1, 17, 4), u_control(frame_type, poll=True), information
            )
        )
        with pytest.raises(error):
            await link.open(in_s(15))

    run_virtual(main())


def test_hdlc_a_push_is_not_taken_for_an_answer(run_virtual):
    async def main():
        ours, link, meter, serving = hdlc()
        await link.open(in_s(15))
        meter.write(meter.link.send_unconfirmed(b"\x0fpush"))
        await link.send(b"\xc0\x01", in_s(15))
        assert await link.receive(in_s(15)) == meter.answer
        assert link.ignored == 1
        ours.close()
        await serving

    run_virtual(main())
