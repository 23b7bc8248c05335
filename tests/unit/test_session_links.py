"""Whole sessions over every kind of link: a real pty with HDLC, UDP, and links where nobody answers."""

import asyncio
import os
import pty
import socket
import tty

import pytest
import uvloop

from headend.links.failures import stage_of
from headend.session.client import MeterSession
from headend.session.deadlines import Deadlines
from headend.session.plan import plan_session
from headend.transport.serial import open_serial
from headend.transport.stream import BaseStream
from protocols.dlms import axdr, wrapper
from protocols.dlms.association import GetRequested, ServerAssociation, ServerSettings, Transmit
from protocols.dlms.cosem import Attribute
from protocols.dlms.obis import Obis
from protocols.errors import LinkClosed, LinkError, LinkTimeout
from schemas.address import LinkAddress
from schemas.failure import Stage
from schemas.model import MeterModel

ENERGY = Attribute(3, Obis.parse("1-0:1.8.0*255"), 2)
LONG = axdr.encode(axdr.octets(bytes(range(256)) * 10))
MODEL = MeterModel.model_validate({"name": "test", "title": "Test"})
LOOPS = {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=sorted(LOOPS))
def run(request):
    def run_(main):
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            return runner.run(main)

    return run_


def plan(address):
    return plan_session(MODEL, LinkAddress.parse(address), {}, None)


def test_hdlc_over_a_real_pty(run, fake_meter):
    async def main():
        # Two ptys and a wire between their masters: each end is a serial device of its own.
        (master_a, slave_a), (master_b, slave_b) = pty.openpty(), pty.openpty()
        for fd in (master_a, slave_a, master_b, slave_b):
            tty.setraw(fd)
        loop = asyncio.get_running_loop()
        for source, target in ((master_a, master_b), (master_b, master_a)):
            loop.add_reader(source, lambda s=source, t=target: os.write(t, os.read(s, 4096)))
        try:
            theirs = await open_serial(os.ttyname(slave_b))
            meter = fake_meter(theirs, {16: ServerSettings()}, {ENERGY: LONG}, hdlc=True)
            address = f"hdlc+serial://{os.ttyname(slave_a)}?baud=9600"
            async with MeterSession(plan(address)) as session:
                for _ in range(3):
                    assert await session.get(ENERGY) == LONG
            assert session.release_error is None
            await theirs.wait_closed(loop.time() + 5)
            await meter.serving
        finally:
            loop.remove_reader(master_a)
            loop.remove_reader(master_b)
            for fd in (master_a, slave_a, master_b, slave_b):
                os.close(fd)

    run(main())


class UdpMeter(asyncio.DatagramProtocol):
    """A wrapper meter on UDP. ``noise`` sends rubbish and a doubled datagram with each answer."""

    def __init__(self, *, noise=False, deaf=False):
        self.server = ServerAssociation(ServerSettings())
        self.noise = noise
        self.deaf = deaf

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        frame = wrapper.parse(data).frame
        if self.deaf:
            return
        for event in self.server.receive(frame.apdu):
            apdus = []
            if isinstance(event, Transmit):
                apdus = [event.apdu]
            elif isinstance(event, GetRequested):
                apdus = self.server.respond_get([LONG] * len(event.items))
            for apdu in apdus:
                datagram = wrapper.encode(frame.destination, frame.source, apdu)
                if self.noise:
                    self.transport.sendto(b"rubbish", addr)
                    self.transport.sendto(datagram[:-1], addr)
                    self.transport.sendto(datagram, addr)
                self.transport.sendto(datagram, addr)


@pytest.mark.parametrize("noise", [False, True])
def test_wrapper_over_udp(run, noise):
    async def main():
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: UdpMeter(noise=noise), local_addr=("127.0.0.1", 0)
        )
        port = transport.get_extra_info("sockname")[1]
        async with MeterSession(plan(f"udp://127.0.0.1:{port}?client=16")) as session:
            assert await session.get(ENERGY) == LONG
            assert await session.get(ENERGY) == LONG
        assert (session.stale > 0) is noise
        assert session.release_error is None
        transport.close()

    run(main())


def test_a_deaf_udp_meter_times_out(run):
    async def main():
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: UdpMeter(deaf=True), local_addr=("127.0.0.1", 0)
        )
        port = transport.get_extra_info("sockname")[1]
        session = MeterSession(plan(f"udp://127.0.0.1:{port}"), deadlines=Deadlines(associate_s=0.01))
        with pytest.raises(LinkTimeout) as caught:
            async with session:
                pass
        assert stage_of(caught.value) is Stage.TIMEOUT
        transport.close()

    run(main())


def test_a_port_where_nobody_listens(run):
    async def main():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        with pytest.raises(LinkClosed, match="refused"):
            async with MeterSession(plan(f"udp://127.0.0.1:{port}")):
                pass

    run(main())


def test_a_link_is_small():
    """No per-instance dictionary on what a head-end holds ten thousand of."""

    async def main():
        class Bare(BaseStream):
            __slots__ = ()

        assert not hasattr(Bare("x"), "__dict__")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("address", "stage"),
    [
        ("tcp://no-such-host.invalid:4059?client=16", Stage.DNS),
        ("udp://no-such-host.invalid:4059?client=16", Stage.DNS),
        ("tcp://127.0.0.1:1?client=16", Stage.CONNECT),
    ],
)
def test_a_link_that_cannot_be_had_tells_its_stage(run, address, stage):
    async def main():
        with pytest.raises(LinkError) as caught:
            async with MeterSession(plan(address)):
                pass
        assert stage_of(caught.value) is stage

    run(main())
