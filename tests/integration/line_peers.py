"""Peers of the small languages: what real meters said, at the end of a TCP port or of a pseudo-terminal.

A peer is a function: what is sent back for each piece received; for b"", what it says at once.
"""

import asyncio
import json
import os
import pty
import tty
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from protocols.dlt645.control import Control
from protocols.dlt645.frame import Dlt645Frame, Dlt645Reader, encode_frame
from protocols.iec62056_21.messages import block_check

VECTORS = Path(__file__).parents[1] / "vectors"
SETS = "0.0.0(00012345)\r\n1.8.0(001234.567*kWh)\r\n2.8.0(000000.001*kWh)\r\n32.7.0(229.9*V)\r\n"
Answer = Callable[[bytes], bytes]


def captured_telegram(name: str) -> bytes:
    """A P1 telegram of a real meter."""
    entries = json.loads((VECTORS / "p1/telegrams.json").read_text())["entries"]
    text: str = next(one["telegram"] for one in entries if one["id"] == name)
    return text.encode("latin-1")


@asynccontextmanager
async def serving_tcp(answer: Answer, *, again_s: float | None = None) -> AsyncIterator[str]:
    """Host and port of the peer; it says what it says at once again every ``again_s`` seconds."""
    serving: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            writer.write(answer(b""))
            while again_s is not None:
                await asyncio.sleep(again_s)
                writer.write(answer(b""))
            while data := await reader.read(1024):
                writer.write(answer(data))
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)


@asynccontextmanager
async def serving_line(answer: Answer) -> AsyncIterator[str]:
    """The device at our end of a pseudo-terminal, the peer at the other."""
    master, slave = pty.openpty()
    tty.setraw(master)
    tty.setraw(slave)
    loop = asyncio.get_running_loop()
    loop.add_reader(master, lambda: os.write(master, answer(os.read(master, 4096))))
    try:
        yield os.ttyname(slave)
    finally:
        loop.remove_reader(master)
        os.close(master)
        os.close(slave)


class Meter645:
    """A DL/T 645 meter: data by identifier, low byte first, without 0x33; a list goes in several frames; a
    function gets the request. What it has not it refuses."""

    def __init__(self, data: Mapping[str, Any], address: str = "000000000001") -> None:
        self.data, self.address = data, address
        self.reader = Dlt645Reader()
        self.asked: list[Dlt645Frame] = []

    def __call__(self, received: bytes) -> bytes:
        self.reader.feed(received)
        answers = b""
        while (frame := self.reader.next()) is not None:
            assert isinstance(frame, Dlt645Frame), frame
            self.asked.append(frame)
            answers += self._answer(frame)
        return answers

    def _answer(self, frame: Dlt645Frame) -> bytes:
        told = self.data.get(bytes(reversed(frame.data[:4])).hex("-").upper())
        if callable(told):
            told = told(frame)
        if told is None:
            return encode_frame(Dlt645Frame(self.address, Control(0xD1), b"\x02"))
        if isinstance(told, list):
            place = frame.data[4] if frame.control.code == 0x12 else 0
            more = 0x20 if place + 1 < len(told) else 0
            tail = bytes((place,)) if place else b""
            control = Control(0x80 | more | frame.control.code)
            return encode_frame(Dlt645Frame(self.address, control, frame.data[:4] + told[place] + tail))
        return encode_frame(Dlt645Frame(self.address, Control(0x91), frame.data[:4] + told))


class Readout:
    """A meter that waits for a sign-on: says its identification, then, asked or not, its data sets."""

    def __init__(self, identification: bytes, sets: str, *, asked: bool = True, echo: bool = False) -> None:
        self.identification, self.sets, self.asked, self.echo = identification, sets, asked, echo
        self.blocks = [self.block()]
        self.got = b""
        self.naks = 0

    def block(self) -> bytes:
        body = self.sets.encode() + b"!\r\n\x03"
        return b"\x02" + body + bytes((block_check(body),))

    def _next(self) -> bytes:
        return self.blocks.pop(0) if len(self.blocks) > 1 else self.blocks[0]

    def __call__(self, data: bytes) -> bytes:
        self.got += data
        answer = data if self.echo else b""
        if data == b"\x15":
            self.naks += 1
            return answer + self._next()
        if self.got.startswith(b"/?") and self.got.endswith(b"!\r\n"):
            self.got = b""
            return answer + self.identification + (b"" if self.asked else self._next())
        if self.got[:1] == b"\x06" and len(self.got) == 6:
            self.got = b""
            return answer + self._next()
        return answer
