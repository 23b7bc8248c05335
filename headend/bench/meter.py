"""The meter that every client of the benchmark reads: ``python -m headend.bench.meter``, its own process.

It holds one load-profile day (`headend.bench.payload`) and what a head-end asks once about the profile. Two
kinds of ports: on the *plain* ones it answers with bytes that it has learnt by heart, so that its own work
hardly counts; on the *ciphered* ones it does what a meter does for HLS-GMAC with authenticated encryption,
with PDUs of 1,024 bytes, so that the day travels in blocks.
"""

import asyncio
import itertools
import json
import os
import resource
import sys
from collections.abc import Callable, Mapping
from typing import Final

import uvloop

from headend.bench import payload
from headend.transport.tcp import RECEIVE_BUFFER
from protocols.dlms import axdr, wrapper
from protocols.dlms.association import (
    ActionRequested,
    CipherSettings,
    GetRequested,
    MethodOutcome,
    ServerAssociation,
    ServerSettings,
    SetRequested,
    Transmit,
)
from protocols.dlms.cosem import Attribute, CaptureObject
from protocols.dlms.enums import ActionResult, DataAccessResult, Mechanism
from protocols.dlms.obis import Obis
from protocols.dlms.security import Key, Policy, Protection
from protocols.errors import RemoteProtocolError

#: Ports of each kind: more than one, so that closed connections do not use up the local ports of one peer.
PORTS: Final = 8
MAX_PDU: Final = 1024
_BACKLOG: Final = 8192
#: Keys of nothing but this benchmark.
KEYS: Final = {
    "encryption": "000102030405060708090A0B0C0D0E0F",
    "authentication": "D0D1D2D3D4D5D6D7D8D9DADBDCDDDEDF",
    "client_title": "4842454E43480001",
    "server_title": "4842454E43480002",
}

_PROFILE: Final = Obis.parse("1-0:99.1.0*255")
_CAPTURES: Final = (
    (8, "0-0:1.0.0*255"),
    (1, "0-0:96.10.1*255"),
    (3, "1-0:1.8.0*255"),
    (3, "1-0:2.8.0*255"),
    (3, "1-0:3.8.0*255"),
    (3, "1-0:4.8.0*255"),
)
_UNITS: Final = {"1-0:1.8.0*255": 30, "1-0:2.8.0*255": 30, "1-0:3.8.0*255": 32, "1-0:4.8.0*255": 32}


def objects() -> dict[Attribute, bytes]:
    """All attributes that it has, as raw A-XDR."""
    captures = axdr.array(
        [CaptureObject(class_id, Obis.parse(obis), 2).encode() for class_id, obis in _CAPTURES]
    )
    found = {
        Attribute(7, _PROFILE, 2): payload.buffer(payload.rows()),
        Attribute(7, _PROFILE, 3): axdr.encode(captures),
        Attribute(7, _PROFILE, 4): axdr.encode(axdr.u32(900)),
        Attribute(7, _PROFILE, 5): axdr.encode(axdr.enum(1)),
    }
    for obis, unit in _UNITS.items():
        scaler_unit = axdr.structure(axdr.i8(0), axdr.enum(unit))
        found[Attribute(3, Obis.parse(obis), 3)] = axdr.encode(scaler_unit)
    return found


def ciphered_settings() -> ServerSettings:
    """HLS-GMAC, everything authenticated and encrypted."""
    both = Protection.AUTHENTICATED_ENCRYPTED
    cipher = CipherSettings(
        bytes.fromhex(KEYS["server_title"]),
        Key.from_hex(KEYS["encryption"]),
        Key.from_hex(KEYS["authentication"]),
    )
    return ServerSettings(
        mechanisms=frozenset({Mechanism.HLS_GMAC}),
        cipher=cipher,
        policy=Policy(both, both),
        max_pdu=MAX_PDU,
    )


class _Answers:
    """What the meter says to APDUs of one association."""

    __slots__ = ("_objects", "_server")

    def __init__(self, settings: ServerSettings, held: Mapping[Attribute, bytes]) -> None:
        self._objects = held
        self._server = ServerAssociation(settings, next_counter=itertools.count(1).__next__)

    def to(self, apdu: bytes) -> list[bytes]:
        out: list[bytes] = []
        for event in self._server.receive(apdu):
            if isinstance(event, Transmit):
                out.append(event.apdu)
            elif isinstance(event, GetRequested):
                undefined = DataAccessResult.OBJECT_UNDEFINED
                out += self._server.respond_get(
                    [self._objects.get(item.attribute, undefined) for item in event.items]
                )
            elif isinstance(event, SetRequested):
                out += self._server.respond_set([DataAccessResult.READ_WRITE_DENIED for _ in event.items])
            elif isinstance(event, ActionRequested):
                denied = MethodOutcome(ActionResult.READ_WRITE_DENIED)
                out += self._server.respond_action([denied for _ in event.methods])
        return out


class _ByHeart:
    """Answers of an association without ciphering: they depend on the request alone, so each is made once.

    A request that is new is answered by a real association that has gone through this connection's earlier
    requests first.
    """

    __slots__ = ("_earlier", "_held", "_known")

    def __init__(self, held: Mapping[Attribute, bytes], known: dict[bytes, list[bytes]]) -> None:
        self._held = held
        self._known = known
        self._earlier: list[bytes] = []

    def to(self, apdu: bytes) -> list[bytes]:
        answers = self._known.get(apdu)
        if answers is None:
            made = _Answers(ServerSettings(max_pdu=0xFFFF), self._held)
            for earlier in self._earlier:
                made.to(earlier)
            answers = self._known[apdu] = made.to(apdu)
        self._earlier.append(apdu)
        return answers


class _Connection(asyncio.BufferedProtocol):
    """One client's connection."""

    __slots__ = ("_answers", "_reader", "_transport")

    _view = memoryview(bytearray(RECEIVE_BUFFER))  # one loop, one buffer

    def __init__(self, answers: "_Answers | _ByHeart") -> None:
        self._answers = answers
        self._reader = wrapper.WrapperReader()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        transport = self._transport
        if transport is None:
            return
        self._reader.feed(bytes(self._view[:nbytes]))
        try:
            while isinstance(frame := self._reader.next(), wrapper.WrapperFrame):
                for apdu in self._answers.to(frame.apdu):
                    transport.write(wrapper.encode(frame.destination, frame.source, apdu))
        except RemoteProtocolError:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None


async def _ports(make: Callable[[], _Connection]) -> list[int]:
    loop = asyncio.get_running_loop()
    found = []
    for _ in range(PORTS):
        server = await loop.create_server(make, "127.0.0.1", 0, backlog=_BACKLOG)
        found.append(server.sockets[0].getsockname()[1])
    return found


async def main() -> None:
    """Serve until standard input ends."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    held, settings = objects(), ciphered_settings()
    known: dict[bytes, list[bytes]] = {}
    hello = {
        "plain": await _ports(lambda: _Connection(_ByHeart(held, known))),
        "ciphered": await _ports(lambda: _Connection(_Answers(settings, held))),
    }
    sys.stdout.write(json.dumps(hello) + "\n")
    sys.stdout.flush()
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(0, lambda: None if os.read(0, 4096) else ended.set())
    await ended.wait()
    loop.remove_reader(0)


if __name__ == "__main__":
    uvloop.run(main())
