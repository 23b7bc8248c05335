"""Streams: bytes through, deadlines, backpressure, closing, cancellation; over memory, TCP, UDP, a pty."""

import asyncio
import os
import pty
import socket
import tty

import pytest
import uvloop

from headend.transport.memory import memory_pair
from headend.transport.serial import open_serial
from headend.transport.stream import HIGH_WATER
from headend.transport.tcp import TcpStream, dial_tcp, listen_tcp
from headend.transport.udp import MAX_WAITING, dial_udp
from protocols.errors import Fault, LinkClosed, LinkError, LinkTimeout, LocalProtocolError

LOOPS = {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=sorted(LOOPS))
def run(request):
    def run_(main):
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            return runner.run(main)

    return run_


def in_s(seconds):
    return asyncio.get_running_loop().time() + seconds


# ---- deadlines, on a clock that jumps ---------------------------------------------------------------


def test_nothing_comes_until_the_deadline(run_virtual):
    async def main():
        ours, _ = memory_pair()
        start = asyncio.get_running_loop().time()
        with pytest.raises(LinkTimeout) as caught:
            await ours.read_some(in_s(30))
        assert caught.value.fault is Fault.LINK
        assert "memory:meter" in str(caught.value)
        assert asyncio.get_running_loop().time() - start == pytest.approx(30)

    run_virtual(main())


def test_a_timer_left_over_from_an_answered_read_does_not_end_the_next_one(run_virtual):
    async def main():
        ours, theirs = memory_pair()
        loop = asyncio.get_running_loop()
        theirs.write(b"1")
        start = loop.time()
        loop.call_later(5, theirs.write, b"2")
        assert await ours.read_some(start + 10) == b"1"
        assert await ours.read_some(start + 10) == b"2"  # arms for start + 10
        loop.call_later(20, theirs.write, b"3")
        assert await ours.read_some(start + 60) == b"3"  # the old timer goes off at 10 and is armed again
        assert loop.time() == pytest.approx(start + 25)

    run_virtual(main())


def test_an_earlier_deadline_than_the_armed_one_is_kept(run_virtual):
    async def main():
        ours, theirs = memory_pair()
        loop = asyncio.get_running_loop()
        loop.call_later(1, theirs.write, b"x")
        start = loop.time()
        await ours.read_some(start + 100)
        with pytest.raises(LinkTimeout):
            await ours.read_some(start + 3)
        assert loop.time() == pytest.approx(start + 3)

    run_virtual(main())


def test_bytes_that_keep_coming_do_not_outlast_the_deadline(run_virtual):
    async def main():
        ours, theirs = memory_pair()
        loop = asyncio.get_running_loop()
        loop.call_soon(theirs.write, b"and another thing")  # would come before the timer is looked at
        with pytest.raises(LinkTimeout):
            await ours.read_some(loop.time())

    run_virtual(main())


def test_a_stream_can_be_read_after_a_timeout(run_virtual):
    async def main():
        ours, theirs = memory_pair()
        with pytest.raises(LinkTimeout):
            await ours.read_some(in_s(1))
        theirs.write(b"late")
        assert await ours.read_some(in_s(1)) == b"late"

    run_virtual(main())


def test_drain_waits_for_a_slow_peer_and_not_for_ever(run_virtual):
    async def main():
        ours, theirs = memory_pair()
        await ours.drain(in_s(0))
        ours.write(b"x" * (HIGH_WATER + 1))
        with pytest.raises(LinkTimeout):
            await ours.drain(in_s(2))
        asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(theirs.read_some(in_s(1))))
        await ours.drain(in_s(2))

    run_virtual(main())


def test_cancelling_a_reader_loses_nothing(run_virtual):
    async def main():
        ours, theirs = memory_pair()
        reading = asyncio.ensure_future(ours.read_some(in_s(10)))
        await asyncio.sleep(0)
        theirs.write(b"kept")  # the reader is woken ...
        reading.cancel()  # ... and cancelled before it runs
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await ours.read_some(in_s(1)) == b"kept"

    run_virtual(main())


def test_closing_gives_what_came_before_and_then_says_so(run_virtual):
    async def main():
        ours, theirs = memory_pair()
        theirs.write(b"last words")
        theirs.close()
        assert not ours.is_open
        assert await ours.read_some(in_s(1)) == b"last words"
        with pytest.raises(LinkClosed, match="closed by the peer"):
            await ours.read_some(in_s(1))
        with pytest.raises(LinkClosed):
            ours.write(b"x")
        with pytest.raises(LinkClosed):
            await ours.drain(in_s(1))
        await ours.wait_closed(in_s(1))
        ours.close()
        ours.abort()

    run_virtual(main())


def test_closing_wakes_a_waiting_reader(run_virtual):
    async def main():
        ours, _ = memory_pair()
        reading = asyncio.ensure_future(ours.read_some(in_s(10)))
        await asyncio.sleep(0)
        ours.close()
        with pytest.raises(LinkClosed, match="closed by us"):
            await reading

    run_virtual(main())


def test_two_readers_of_one_link_are_a_defect_of_ours(run_virtual):
    async def main():
        ours, theirs = memory_pair()
        reading = asyncio.ensure_future(ours.read_some(in_s(10)))
        await asyncio.sleep(0)
        with pytest.raises(LocalProtocolError):
            await ours.read_some(in_s(10))
        theirs.write(b"x")
        assert await reading == b"x"

    run_virtual(main())


def test_unread_bytes_come_first(run_virtual):
    async def main():
        ours, theirs = memory_pair()
        theirs.write(b"world")
        ours.unread(b"hello ")
        ours.unread(b"")
        assert await ours.read_some(in_s(1)) == b"hello world"

    run_virtual(main())


def test_datagrams_stay_apart(run_virtual):
    async def main():
        ours, theirs = memory_pair(datagrams=True)
        theirs.write(b"one")
        theirs.write(b"two")
        assert await ours.read_some(in_s(1)) == b"one"
        assert await ours.read_some(in_s(1)) == b"two"

    run_virtual(main())


# ---- TCP, under both loops ------------------------------------------------------------------------


async def tcp_pair():
    accepted = asyncio.get_running_loop().create_future()
    server = await listen_tcp("127.0.0.1", 0, accepted.set_result)
    port = server.sockets[0].getsockname()[1]
    ours = await dial_tcp("127.0.0.1", port, in_s(5))
    theirs = await accepted
    return server, ours, theirs


async def end(server, *streams):
    for stream in streams:
        await stream.wait_closed(in_s(5))
    server.close()
    await server.wait_closed()


def test_tcp_carries_bytes_both_ways(run):
    async def main():
        server, ours, theirs = await tcp_pair()
        nodelay = ours._transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert nodelay
        ours.write(b"ping")
        assert await theirs.read_some(in_s(5)) == b"ping"
        payload = os.urandom(300_000)
        theirs.write(payload)
        got = b""
        while len(got) < len(payload):
            got += await ours.read_some(in_s(5))
        assert got == payload
        assert theirs.peer.startswith("tcp://127.0.0.1:")
        await end(server, ours, theirs)

    run(main())


def test_two_connections_share_the_buffer_and_not_the_bytes(run):
    async def main():
        first_server, a, a_meter = await tcp_pair()
        second_server, b, b_meter = await tcp_pair()
        assert a.get_buffer(-1) is b.get_buffer(-1)
        a_meter.write(b"A" * 1000)
        b_meter.write(b"B" * 10)
        assert await b.read_some(in_s(5)) == b"B" * 10
        assert await a.read_some(in_s(5)) == b"A" * 1000
        await end(first_server, a, a_meter)
        await end(second_server, b, b_meter)

    run(main())


def test_a_flood_is_pushed_back_and_not_kept(run):
    async def main():
        server, ours, theirs = await tcp_pair()
        total = 40 * 1024 * 1024
        theirs.write(bytes(total))
        writing = asyncio.ensure_future(theirs.drain(in_s(60)))
        ours.write(b"x")
        await theirs.read_some(in_s(5))  # several turns of the loop pass before anybody reads
        for _ in range(10_000):  # turns of the loop
            if ours._paused_reading:
                break
            await asyncio.sleep(0)
        assert ours._paused_reading
        assert ours._size <= HIGH_WATER + 64 * 1024
        assert not writing.done()
        got = 0
        while got < total:
            got += len(await ours.read_some(in_s(5)))
        await writing
        assert got == total
        await end(server, ours, theirs)

    run(main())


def test_the_peer_closes_and_the_peer_resets(run):
    async def main():
        server, ours, theirs = await tcp_pair()
        theirs.write(b"half an AP")
        theirs.close()
        assert await ours.read_some(in_s(5)) == b"half an AP"
        with pytest.raises(LinkClosed):
            await ours.read_some(in_s(5))
        await end(server, ours, theirs)
        server, ours, theirs = await tcp_pair()
        sock = theirs._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        theirs.abort()
        with pytest.raises(LinkClosed):
            await ours.read_some(in_s(5))
        await end(server, ours, theirs)

    run(main())


def test_a_half_open_peer_is_closed(run):
    async def main():
        server, ours, theirs = await tcp_pair()
        theirs._transport.write_eof()
        with pytest.raises(LinkClosed, match="closed by the peer"):
            await ours.read_some(in_s(5))
        await end(server, ours, theirs)

    run(main())


def test_a_refused_connection_names_the_place_and_blames_the_link(run):
    async def main():
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound, not listening
            port = taken.getsockname()[1]
            with pytest.raises(LinkError, match=rf"tcp://127\.0\.0\.1:{port}.*refused") as caught:
                await dial_tcp("127.0.0.1", port, in_s(5))
        assert not isinstance(caught.value, LinkTimeout)

    run(main())


def test_connecting_has_a_deadline(run_virtual, monkeypatch):
    async def main():
        loop = asyncio.get_running_loop()

        async def never(*_args, **_kwargs):
            await loop.create_future()

        monkeypatch.setattr(loop, "create_connection", never)
        with pytest.raises(LinkTimeout, match="not connected"):
            await dial_tcp("192.0.2.1", 4059, in_s(10))

    run_virtual(main())


def test_a_cancelled_dial_leaves_nothing_behind(run):
    async def main():
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen(0)
            dialling = asyncio.ensure_future(dial_tcp("127.0.0.1", taken.getsockname()[1], in_s(5)))
            await asyncio.sleep(0)
            dialling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await dialling

    run(main())


def test_repr_and_write_before_connection():
    async def main():
        stream = TcpStream("tcp://x")
        assert repr(stream) == "<TcpStream tcp://x open>"
        with pytest.raises(LinkClosed, match="not connected"):
            stream.write(b"x")

    asyncio.run(main())


# ---- UDP ----------------------------------------------------------------------------------------------


def test_udp_keeps_datagrams_apart_and_bounds_them(run):
    async def main():
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as meter:
            meter.bind(("127.0.0.1", 0))
            meter.setblocking(False)
            ours = await dial_udp("127.0.0.1", meter.getsockname()[1], in_s(5))
            ours.write(b"hello")
            while True:
                try:
                    data, address = meter.recvfrom(100)
                except BlockingIOError:
                    await asyncio.sleep(0)
                else:
                    break
            assert data == b"hello"
            meter.sendto(b"one", address)
            meter.sendto(b"two", address)
            assert await ours.read_some(in_s(5)) == b"one"
            assert await ours.read_some(in_s(5)) == b"two"
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.sendto(b"not from the meter", address)
            with pytest.raises(LinkTimeout):
                await ours.read_some(loop.time())
            for _ in range(MAX_WAITING + 3):
                ours.datagram_received(b"x", None)
            ours.datagram_received(b"", None)
            assert ours.dropped == 4
            await ours.wait_closed(in_s(5))

    run(main())


def test_udp_to_a_closed_port_is_told(run):
    async def main():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        ours = await dial_udp("127.0.0.1", port, in_s(5))
        ours.write(b"anybody?")
        with pytest.raises(LinkClosed, match="refused"):
            await ours.read_some(in_s(5))
        await ours.wait_closed(in_s(5))

    run(main())


# ---- serial -------------------------------------------------------------------------------------------


def test_serial_over_a_real_pty(run):
    async def main():
        master, slave = pty.openpty()
        tty.setraw(master)
        tty.setraw(slave)
        os.set_blocking(master, False)
        try:
            ours = await open_serial(os.ttyname(slave), baud=9600)
            ours.write(b"\x7e\xa0\x00\x7e")
            got = b""
            while len(got) < 4:
                try:
                    got += os.read(master, 100)
                except BlockingIOError:
                    await asyncio.sleep(0)
            assert got == b"\x7e\xa0\x00\x7e"
            os.write(master, bytes(range(256)))
            back = b""
            while len(back) < 256:
                back += await ours.read_some(in_s(5))
            assert back == bytes(range(256))
            await ours.wait_closed(in_s(5))
            assert not ours.is_open
            with pytest.raises(LinkClosed):
                ours.write(b"x")
        finally:
            os.close(master)
            os.close(slave)

    run(main())


def test_no_such_device_names_it(run):
    async def main():
        with pytest.raises(LinkError, match="serial:///dev/no-such-line"):
            await open_serial("/dev/no-such-line")

    run(main())
