"""A bus with slaves that are late, silent, noisy or gone: nobody gets another's answer."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from headend.drivers.modbus.bus import Bus
from headend.links.failures import stage_of
from protocols.errors import (
    CommunicationError,
    GatewayRefused,
    LinkClosed,
    LinkError,
    LinkTimeout,
    ModbusRefused,
    RemoteProtocolError,
)
from protocols.modbus.plan import Span
from schemas.address import LinkAddress
from schemas.failure import Stage
from schemas.register_model import Space
from tests.integration.modbus_peers import Behaviour, Request, Rogue

SHORT, LONG = 0.2, 10.0
RTU = ("modbus+rtu+tcp", "modbus+rtu")
ALL = ("modbus+tcp", *RTU)
Send = Callable[[bytes], None]


def span(address: int, count: int = 2) -> Span:
    return Span(Space.INPUT, address, count)


def words(address: int, count: int = 2) -> list[int]:
    """What `Rogue` holds: each register its own address."""
    return list(range(address, address + count))


def honest(request: Request, send: Send) -> None:
    send(request.answer())


@asynccontextmanager
async def bus_with(
    scheme: str, behaviour: Behaviour, idle_s: float = LONG
) -> AsyncIterator[tuple[Bus, Rogue]]:
    rogue = Rogue(behaviour, is_rtu=scheme != "modbus+tcp")
    serving = rogue.serving_line() if scheme == "modbus+rtu" else rogue.serving_tcp()
    async with asyncio.timeout(60), serving as place:
        at = place if isinstance(place, str) else f"127.0.0.1:{place}"
        bus = Bus(LinkAddress.parse(f"{scheme}://{at}?unit=1"), connect_s=LONG, idle_s=idle_s)
        try:
            yield bus, rogue
        finally:
            bus.close()


async def read(bus: Bus, unit: int, address: int, answer_s: float = LONG, count: int = 2) -> list[int]:
    data = (await bus.read(unit, span(address, count), answer_s)).data
    return list(struct.unpack(f">{count}H", data))


@asynccontextmanager
async def used(bus: Bus, address: LinkAddress) -> AsyncIterator[None]:
    await bus.take(address)
    try:
        yield
    finally:
        bus.release()


# ---- late answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ALL)
@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_late_answer_is_never_taken_for_the_next_one(scheme: str, cancelled: bool) -> None:
    """The slave answers the first request while the second could be out, and the second after that."""
    loop = asyncio.get_running_loop()

    def late(request: Request, send: Send) -> None:
        loop.call_later(1.5 * SHORT if len(rogue.requests) == 1 else SHORT, send, request.answer())

    async with bus_with(scheme, late) as (bus, rogue):
        if cancelled:
            task = asyncio.create_task(read(bus, 1, 100, answer_s=2 * SHORT))
            await asyncio.sleep(SHORT)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            with pytest.raises(LinkTimeout, match=r"unit 1 did not answer within 0\.2 s"):
                await read(bus, 1, 100, answer_s=SHORT)
        assert await read(bus, 1, 200) == words(200)
        assert await read(bus, 1, 300) == words(300)
        assert [one.address for one in rogue.requests] == [100, 200, 300]


@pytest.mark.parametrize("scheme", RTU)
async def test_a_late_answer_is_an_answer_time_that_was_seen(scheme: str) -> None:
    loop = asyncio.get_running_loop()
    came: list[str] = []

    def behaviour(request: Request, send: Send) -> None:
        came.append(f"request to {request.unit}")

        def answer() -> None:
            came.append(f"answer of {request.unit}")
            send(request.answer())

        loop.call_later({1: 1.5 * SHORT, 2: 2.25 * SHORT, 3: 0}[request.unit], answer)

    async with bus_with(scheme, behaviour) as (bus, _):
        for unit in (1, 2):
            with pytest.raises(LinkTimeout):
                await read(bus, unit, 100, answer_s=SHORT)
        assert await read(bus, 3, 100) == words(100)
    assert came == [
        "request to 1",
        "answer of 1",
        "request to 2",
        "answer of 2",
        "request to 3",
        "answer of 3",
    ]


@pytest.mark.parametrize("scheme", RTU)
async def test_a_slave_that_was_silent_is_left_alone_for_as_long_again(scheme: str) -> None:
    """All answers came at once so far, so the line is soon free for others; but this slave's answer comes
    later than any before, and its next read is an equal one."""
    loop = asyncio.get_running_loop()

    def behaviour(request: Request, send: Send) -> None:
        loop.call_later({100: 0, 200: 1.5 * SHORT, 300: SHORT}[request.address], send, request.answer())

    async with bus_with(scheme, behaviour) as (bus, _):
        await read(bus, 1, 100)
        with pytest.raises(LinkTimeout):
            await read(bus, 1, 200, answer_s=SHORT)
        assert await read(bus, 2, 100) == words(100)
        assert await read(bus, 1, 300) == words(300)


@pytest.mark.parametrize("scheme", ALL)
async def test_a_late_answer_of_another_slave_does_not_fail_the_request_that_is_out(scheme: str) -> None:
    late: list[bytes] = []

    def behaviour(request: Request, send: Send) -> None:
        if request.unit == 1:
            late.append(request.answer())
        else:
            send(late.pop() if late else b"")
            asyncio.get_running_loop().call_later(SHORT / 4, send, request.answer())

    async with bus_with(scheme, behaviour) as (bus, _):
        with pytest.raises(LinkTimeout):
            await read(bus, 1, 100, answer_s=SHORT)
        assert await read(bus, 2, 200) == words(200)


@pytest.mark.parametrize("scheme", ALL)
async def test_an_answer_that_comes_twice_is_not_the_next_one(scheme: str) -> None:
    """The second copy crosses with the next request, so that no silence before it could tell."""
    loop = asyncio.get_running_loop()
    answers: list[bytes] = []

    def behaviour(request: Request, send: Send) -> None:
        if answers:
            send(answers[-1])
        answers.append(request.answer())
        loop.call_soon(send, answers[-1])

    async with bus_with(scheme, behaviour) as (bus, _):
        for address in range(100, 120, 2):
            assert await read(bus, 1, address) == words(address)


@pytest.mark.parametrize("scheme", ALL)
async def test_two_stretches_of_the_same_contents_are_both_read(scheme: str) -> None:
    def behaviour(request: Request, send: Send) -> None:
        send(request.answer([0, 0]))

    async with bus_with(scheme, behaviour) as (bus, _):
        for address in (100, 200, 200, 100):
            assert await read(bus, 1, address) == [0, 0]


@pytest.mark.parametrize("scheme", RTU)
async def test_both_answers_in_one_piece_of_the_stream(scheme: str) -> None:
    def behaviour(request: Request, send: Send) -> None:
        send(request.answer([9, 9], unit=5) + request.answer())

    async with bus_with(scheme, behaviour) as (bus, _):
        assert await read(bus, 1, 100) == words(100)


@pytest.mark.parametrize("scheme", RTU)
async def test_the_line_is_left_alone_until_it_was_silent_for_the_longest_answer_time(scheme: str) -> None:
    """The first slave's answer takes its time, so after the second one's silence the third is not asked
    before a late answer, which takes no longer, must have come."""
    loop = asyncio.get_running_loop()
    came: list[str] = []

    def behaviour(request: Request, send: Send) -> None:
        came.append(f"request to {request.unit}")

        def answer() -> None:
            came.append(f"answer of {request.unit}")
            send(request.answer())

        loop.call_later({1: SHORT, 2: 1.7 * SHORT, 3: 0}[request.unit], answer)

    async with bus_with(scheme, behaviour) as (bus, _):
        await read(bus, 1, 100)
        with pytest.raises(LinkTimeout):
            await read(bus, 2, 100, answer_s=SHORT)
        assert await read(bus, 3, 100) == words(100)
    assert came == [
        "request to 1",
        "answer of 1",
        "request to 2",
        "answer of 2",
        "request to 3",
        "answer of 3",
    ]


# ---- noise ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", RTU)
@pytest.mark.parametrize(
    "noise", [b"\0", b"\xff" * 40, b"\x01\x04", b"\x01\x04\x04\0\0\0\0\0\0", b"\x01\x84\x02\0\0"]
)
async def test_noise_before_the_answer_is_passed_over(scheme: str, noise: bytes) -> None:
    async with bus_with(scheme, lambda request, send: send(noise + request.answer())) as (bus, _):
        assert await read(bus, 1, 100) == words(100)


@pytest.mark.parametrize("scheme", ALL)
async def test_an_answer_in_single_bytes(scheme: str) -> None:
    loop = asyncio.get_running_loop()

    def behaviour(request: Request, send: Send) -> None:
        for place, byte in enumerate(request.answer()):
            loop.call_later(0.001 * place, send, bytes((byte,)))

    async with bus_with(scheme, behaviour) as (bus, _):
        assert await read(bus, 1, 100) == words(100)


@pytest.mark.parametrize("scheme", RTU)
async def test_a_frame_whose_check_fails_is_no_answer(scheme: str) -> None:
    def behaviour(request: Request, send: Send) -> None:
        frame = bytearray(request.answer())
        frame[4] ^= 1
        send(bytes(frame) if request.address == 100 else request.answer())

    async with bus_with(scheme, behaviour) as (bus, _):
        with pytest.raises(
            RemoteProtocolError, match=r"9 bytes came in .* noise, or another speed or parity"
        ):
            await read(bus, 1, 100, answer_s=SHORT)
        assert await read(bus, 1, 200) == words(200)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda request: b"HTTP/1.1 400 Bad Request\r\n\r\n",
        lambda request: request.framed(b"\x04\x02\0\1"),  # too few registers
        lambda request: request.framed(b"\x04\x04\0\1"),  # fewer than it says
        lambda request: request.framed(b"\x03\x04\0\1\0\2"),  # another function
        lambda request: request.framed(b"\x2b\x0e"),
        lambda request: request.framed(b"\x84"),
        lambda request: request.framed(b"\x84\2\2"),
        lambda request: request.answer()[:4] + b"\0\0" + request.answer()[6:],
        lambda request: request.answer()[:2] + b"\0\1" + request.answer()[4:],
        lambda request: request.answer()[:4] + b"\xff\xff" + request.answer()[6:] + bytes(1000),
    ],
)
async def test_what_is_no_modbus_tcp_ends_the_connection_and_the_next_request_has_another(
    wrong: Callable[[Request], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    def behaviour(request: Request, send: Send) -> None:
        send(wrong(request) if request.address == 100 else request.answer())

    async with bus_with("modbus+tcp", behaviour) as (bus, rogue):
        with pytest.raises(RemoteProtocolError, match=r"no Modbus TCP|no answer in Modbus TCP"):
            await read(bus, 1, 100)
        assert await read(bus, 1, 200) == words(200)
        assert rogue.accepted == 2
    assert not caplog.records  # neither the loop nor the library complains


@pytest.mark.parametrize("scheme", ALL)
async def test_bytes_without_end_end(scheme: str) -> None:
    def behaviour(request: Request, send: Send) -> None:
        if request.address == 100:
            for _ in range(50):
                send(bytes(1000))
        else:
            send(request.answer())

    async with bus_with(scheme, behaviour) as (bus, _):
        with pytest.raises(RemoteProtocolError):
            await read(bus, 1, 100, answer_s=50 * LONG)  # not waited for
        assert await read(bus, 1, 200) == words(200)


# ---- refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ALL)
@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        (2, ModbusRefused, "unit 1: illegal data address"),
        (6, ModbusRefused, "unit 1: device busy"),
        (77, ModbusRefused, "unit 1: exception 77"),
        (10, GatewayRefused, "unit 1: gateway path unavailable"),
        (11, GatewayRefused, "unit 1: gateway target did not respond"),
    ],
)
async def test_refusals(scheme: str, code: int, kind: type[CommunicationError], said: str) -> None:
    async with bus_with(scheme, lambda request, send: send(request.refusal(code))) as (bus, _):
        with pytest.raises(kind, match=said) as caught:
            await read(bus, 1, 100)
        if isinstance(caught.value, ModbusRefused):
            assert caught.value.code == code


# ---- connections ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ALL)
async def test_a_slave_that_is_silent_does_not_cost_the_others_their_connection(scheme: str) -> None:
    def behaviour(request: Request, send: Send) -> None:
        if request.unit != 9:
            send(request.answer())

    async with bus_with(scheme, behaviour) as (bus, rogue):
        for _ in range(6):
            with pytest.raises(LinkTimeout):
                await read(bus, 9, 100, answer_s=SHORT / 4)
        assert await read(bus, 1, 200) == words(200)
        assert rogue.accepted == (scheme != "modbus+rtu")


@pytest.mark.parametrize("scheme", ["modbus+tcp", "modbus+rtu+tcp"])
async def test_silent_slaves_among_others_do_not_cost_the_connection(scheme: str) -> None:
    def behaviour(request: Request, send: Send) -> None:
        if request.unit < 200:
            send(request.answer())

    async with bus_with(scheme, behaviour) as (bus, rogue):
        for unit in range(1, 6):
            with pytest.raises(LinkTimeout):
                await read(bus, 200 + unit, 100, answer_s=SHORT / 4)
            assert await read(bus, unit, 200) == words(200)
        assert rogue.accepted == 1


@pytest.mark.parametrize("scheme", ["modbus+tcp", "modbus+rtu+tcp"])
async def test_a_connection_on_which_everybody_is_silent_is_given_up(scheme: str) -> None:
    def behaviour(request: Request, send: Send) -> None:
        if rogue.accepted > 1:
            send(request.answer())

    async with bus_with(scheme, behaviour) as (bus, rogue):
        for unit in (1, 2, 3):
            with pytest.raises(LinkTimeout):
                await read(bus, unit, 100, answer_s=SHORT / 4)
        assert await read(bus, 1, 200) == words(200)
        assert rogue.accepted == 2


@pytest.mark.parametrize("scheme", ["modbus+tcp", "modbus+rtu+tcp"])
async def test_a_connection_that_is_closed_ends_the_request_at_once(scheme: str) -> None:
    def behaviour(request: Request, send: Send) -> None:
        if request.address == 100:
            rogue.hang_up()
        else:
            send(request.answer())

    async with bus_with(scheme, behaviour) as (bus, rogue):
        with pytest.raises(LinkClosed, match="closed by the peer"):
            await read(bus, 1, 100, answer_s=50 * LONG)
        assert await read(bus, 2, 200) == words(200)
        assert rogue.accepted == 2


async def test_half_a_frame_of_a_lost_connection_is_not_the_head_of_the_next_ones() -> None:
    def behaviour(request: Request, send: Send) -> None:
        send(request.answer()[:9] if request.address == 100 else request.answer())

    async with bus_with("modbus+tcp", behaviour) as (bus, rogue):
        with pytest.raises(LinkTimeout):
            await read(bus, 1, 100, answer_s=SHORT)
        rogue.hang_up()
        while bus.is_open:  # noqa: ASYNC110 - until the end of the connection has come
            await asyncio.sleep(0.01)
        assert await read(bus, 1, 200) == words(200)


async def test_nobody_there() -> None:
    rogue = Rogue(honest, is_rtu=False)
    async with rogue.serving_tcp() as port:
        pass
    for place, said, stage in (
        (f"modbus+tcp://127.0.0.1:{port}?unit=1", "Connection refused", Stage.CONNECT),
        ("modbus+tcp://no-such-host.invalid?unit=1", "no such host", Stage.DNS),
        ("modbus+rtu:///dev/no-such-line?unit=1", "no-such-line", Stage.CONNECT),
    ):
        bus = Bus(LinkAddress.parse(place), connect_s=LONG, idle_s=LONG)
        with pytest.raises(LinkError, match=said) as caught:
            await read(bus, 1, 100)
        assert stage_of(caught.value) is stage
        assert not bus.is_open


async def test_a_connection_is_kept_for_a_while_and_then_closed() -> None:
    async with bus_with("modbus+tcp", honest, idle_s=SHORT / 2) as (bus, rogue):
        address = LinkAddress.parse("modbus+tcp://127.0.0.1:1?unit=1")
        for _ in range(3):
            async with used(bus, address):
                await read(bus, 1, 100)
        assert bus.is_open
        async with used(bus, address):
            async with used(bus, address):
                pass
            await asyncio.sleep(SHORT)
            assert bus.is_open  # in use, though nothing is said
        while bus.is_open:  # noqa: ASYNC110 - a timer of the bus closes it
            await asyncio.sleep(0.01)
        assert rogue.accepted == 1
        async with used(bus, address):
            assert await read(bus, 1, 100) == words(100)
        assert rogue.accepted == 2


async def test_a_line_whose_slaves_speak_differently_is_opened_anew() -> None:
    async with bus_with("modbus+rtu", honest) as (bus, _):
        slow = LinkAddress.parse(f"modbus+rtu://{bus._address.device}?unit=2&baud=2400")
        async with used(bus, bus._address):
            assert await read(bus, 1, 100) == words(100)
            first = bus._stream
        async with used(bus, slow):
            assert await read(bus, 2, 100) == words(100)
        assert bus._stream is not first


async def test_requests_of_several_take_turns() -> None:
    out = 0

    def behaviour(request: Request, send: Send) -> None:
        nonlocal out
        out += 1
        assert out == 1

        def answer() -> None:
            nonlocal out
            out -= 1
            send(request.answer())

        asyncio.get_running_loop().call_later(0.005, answer)

    async with bus_with("modbus+rtu", behaviour) as (bus, _):
        found = await asyncio.gather(*(read(bus, unit, 100 * unit) for unit in range(1, 9)))
        assert found == [words(100 * unit) for unit in range(1, 9)]
