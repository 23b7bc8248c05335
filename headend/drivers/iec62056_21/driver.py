"""Readouts of IEC 62056-21 behind the contract: modes A, B, C, D, and E where a readout is wanted.

Over a serial line the rate changes as the meter offers it; behind a TCP gateway that is the gateway's affair.
A meter in mode D (a pulse of light or a key starts it) and one that tells by itself are listened to: they
answer no sign-on.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

from headend.drivers.contract import Conversation, Way
from headend.drivers.line import drain, let_go, open_line
from headend.drivers.line_driver import Answers, LineDriver, LineTiming, LineWay, silent, way_of
from headend.drivers.samples import Value, plain
from headend.drivers.told import Told, ToldConversation
from headend.session.opening import INITIAL_BAUD, Line
from protocols.dlms.framing import BadFrame
from protocols.errors import LinkTimeout, RemoteProtocolError
from protocols.iec62056_21.client import Identified, ReadoutClient, ReadoutReceived
from protocols.iec62056_21.data_sets import DataSet, Part, medium_of, obis_of
from protocols.iec62056_21.messages import Block, IecReader
from schemas.address import Scheme

#: A whole readout may take this long, in seconds: some meters tell ten kilobytes at 300 baud.
_LONGEST_READOUT_S: Final = 600.0


class Iec62056Driver(LineDriver):
    """The `headend.drivers.contract.Driver` of readouts."""

    language = "iec62056-21"
    schemes = frozenset({Scheme.IEC62056_TCP, Scheme.IEC62056_SERIAL})
    timing = LineTiming(answer_s=5.0)

    @asynccontextmanager
    async def open(self, way: Way, *, answer_s: float | None = None) -> AsyncIterator[Conversation]:
        """The line, silent. ``answer_s`` bounds each silence. Raises LinkError, LinkTimeout."""
        line, timing = way_of(way), self._timing
        stream = await open_line(line.address, connect_s=timing.connect_s, baud=INITIAL_BAUD, parity="N")
        answers = Answers()
        patience = timing.answer_s if answer_s is None else answer_s

        async def tell() -> Told:
            await drain(stream, timing.quiet_s)
            try:
                async with asyncio.timeout(_LONGEST_READOUT_S):
                    blocks = await _readout(Line(stream), line, patience, answers)
            except TimeoutError as exc:
                raise silent(f"{line}: a whole readout", _LONGEST_READOUT_S) from exc
            return told_of(blocks, line, self._now())

        try:
            yield ToldConversation(line, tell, answers, self._now)
        finally:
            await let_go(stream)


async def _readout(line: Line, way: LineWay, patience_s: float, answers: Answers) -> list[Block]:
    """Sign on, follow the meter to its rate, take its blocks. Raises LinkTimeout, RemoteProtocolError."""
    loop = asyncio.get_running_loop()
    client = ReadoutClient(way.address.meter or "")
    plain_sets = IecReader()  # a meter in mode D says its data sets behind whatever identification
    blocks: list[Block] = []
    is_called = heard = False
    await line.send(client.start())
    answers.asked()
    while not client.done:
        try:
            data = await line.stream.read_some(loop.time() + patience_s)
        except LinkTimeout:
            if not is_called:
                found = _unasked(plain_sets)
                if found is not None:
                    return [found]
            try:
                await line.send(client.again())
            except RemoteProtocolError as exc:
                if heard:
                    raise
                raise silent(str(way), patience_s) from exc
            continue
        heard = True
        if not is_called:
            plain_sets.feed(data)
        for event in client.receive(data):
            answers.came()
            if isinstance(event, Identified):
                is_called = True
                await line.follow(event)
            elif isinstance(event, ReadoutReceived):
                blocks.append(event.block)
            answers.asked()
    return blocks


def _unasked(reader: IecReader) -> Block | None:
    """A readout that came without an identification (mode D)."""
    reader.end()
    while (found := reader.next()) is not None:
        if isinstance(found, Block) and not isinstance(found, BadFrame):
            return found
    return None


def told_of(blocks: list[Block], way: LineWay, now: datetime) -> Told:
    """Values by OBIS code where the readout leaves no doubt, else by the address as written."""
    sets: list[DataSet] = []
    problems: list[str] = []
    for block in blocks:
        found, malformed = block.sets()
        sets += found
        problems += [f"at {bad.offset}: {bad.reason}" for bad in malformed]
    if not sets:
        why = "; ".join(problems) or "it is empty"
        raise RemoteProtocolError(f"{way}: a readout without any value: {why}")
    medium = medium_of(sets)
    values = []
    for one in sets:
        code = obis_of(one.address, medium)
        name = way.model.codes.get(one.address) or (one.address if code is None else str(code))
        parts = one.parts
        for place, part in enumerate(parts):
            values.append(_value(name if not place else f"{name}#{place}", part))
    return Told(now, tuple(values), (), tuple(problems))


def _value(name: str, part: Part) -> Value:
    if part.number is None or part.unit is None:  # without a unit, digits may be a name with leading zeros
        return Value(name, None, part.text or None, part.unit)
    number, unit = plain(part.number, part.unit)
    return Value(name, number, None, unit)
