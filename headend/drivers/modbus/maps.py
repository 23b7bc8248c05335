"""What a slave's registers mean: by its model's table, or, for SunSpec, by what it tells itself.

Both give `Readings`. What was learnt of single meters is remembered by the `Memory` that all conversations
share: SunSpec maps, and who does not let unwanted registers be read along.
"""

import struct
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Final, NamedTuple, TypeVar

from protocols.errors import RemoteProtocolError
from protocols.modbus import sunspec
from protocols.modbus.plan import Span
from protocols.modbus.readout import Readout
from protocols.modbus.values import RegisterValue
from schemas.register_model import Group, RegisterModel

K = TypeVar("K")
T = TypeVar("T")

#: Meters of which something is remembered.
MAX_METERS: Final = 200_000
#: Choices of registers whose reads are planned.
MAX_PLANS: Final = 1024


class Readings(NamedTuple):
    """Values, or reasons why there are none; and for each when the answer came that says so (microseconds
    since 1970-01-01 UTC)."""

    values: Sequence[RegisterValue]
    at_us: Sequence[int]


class Answered(NamedTuple):
    """The bytes of the registers of one read, or the slave's refusal, and when the answer came."""

    data: bytes | None
    refusal: str | None
    at_us: int


Ask = Callable[[Span], Awaitable[Answered]]


class Memory:
    """What was learnt of meters, by their numbers; bounded, the oldest forgotten first."""

    def __init__(self) -> None:
        self._devices: OrderedDict[int, sunspec.Device] = OrderedDict()
        self._gapless: OrderedDict[int, None] = OrderedDict()
        self._choices: OrderedDict[tuple[str, tuple[str, ...]], tuple[str, ...]] = OrderedDict()
        self._plans: OrderedDict[tuple[str, bool, tuple[str, ...]], Readout] = OrderedDict()

    async def read_codes(
        self, meter_id: int, model: RegisterModel, codes: tuple[str, ...], ask: Ask
    ) -> Readings:
        """The values of these OBIS codes, as far as the meter has them; no codes: all that have one."""
        if model.map == "sunspec":
            values, at_us = await self.read_sunspec(meter_id, ask)
            values = [one for one in values if one.obis and (not codes or one.obis in codes)]
            return Readings(values, at_us[: len(values)])
        names = self._named(model, codes)
        return readings(*await self.ask(meter_id, model, names, ask)) if names else Readings((), ())

    def _named(self, model: RegisterModel, codes: tuple[str, ...]) -> tuple[str, ...]:
        key = (model.name, codes)
        found = self._choices.get(key)
        if found is None:
            found = tuple(
                name
                for name, one in model.registers.items()
                if one.obis is not None
                and one.group is not Group.COMMAND
                and (one.obis in codes if codes else one.group in (Group.ENERGY, Group.LIVE))
            )
            _remember(self._choices, key, found, MAX_PLANS)
        return found

    # ---- a table of registers ---------------------------------------------------------------------

    async def ask(
        self, meter_id: int, model: RegisterModel, names: tuple[str, ...], ask: Ask
    ) -> tuple[Readout, list[Answered]]:
        """The answers to the reads that fetch these registers."""
        if meter_id not in self._gapless:
            readout = self._planned(model, names)
            answers = [await ask(block) for block in readout.blocks]
            if all(one.refusal is None for one in answers):
                return readout, answers
            # A slave may refuse a read for a register in it that nobody wanted.
            _remember(self._gapless, meter_id, None, MAX_METERS)
        readout = self._planned(model, names, gapless=True)
        return readout, [await ask(block) for block in readout.blocks]

    def _planned(self, model: RegisterModel, names: tuple[str, ...], *, gapless: bool = False) -> Readout:
        key = (model.name, gapless, names)
        found = self._plans.get(key)
        if found is None:
            if gapless:
                reads = model.reads.model_copy(update={"max_gap": 0})
                model = model.model_copy(update={"reads": reads})
            found = Readout(model, names)
            _remember(self._plans, key, found, MAX_PLANS)
        return found

    # ---- SunSpec ----------------------------------------------------------------------------------

    async def read_sunspec(self, meter_id: int, ask: Ask) -> Readings:
        """All values of the meter that a SunSpec device is."""
        known = self._devices.get(meter_id)
        if known is not None:
            try:
                return await self._poll(known, ask)
            except RemoteProtocolError:
                del self._devices[meter_id]  # the map may have changed: it is discovered anew
        device, _ = await _follow(sunspec.discover(), ask)
        if not device.meters:
            found = ", ".join(str(one.number) for one in device.models) or "none"
            raise RemoteProtocolError(f"no SunSpec model of a meter; models: {found}")
        _remember(self._devices, meter_id, device, MAX_METERS)
        return await self._poll(device, ask)

    async def _poll(self, device: sunspec.Device, ask: Ask) -> Readings:
        # A device that tells its meter twice, in integers and in floats, tells the same twice.
        values, at_us = await _follow(sunspec.poll(device.meters[0]), ask)
        return Readings(values, [at_us] * len(values))


def readings(readout: Readout, answers: Sequence[Answered]) -> Readings:
    """What the answers say."""
    values = readout.decode_blocks([one.data for one in answers])
    at_us = [answers[number].at_us for number in readout.block_of]
    if all(one.refusal is None for one in answers):
        return Readings(values, at_us)
    refusals = [answers[number].refusal for number in readout.block_of]
    told = [
        value if refusal is None else value._replace(reason=refusal)
        for value, refusal in zip(values, refusals, strict=True)
    ]
    return Readings(told, at_us)


async def _follow(steps: Generator[Span, Sequence[int] | None, T], ask: Ask) -> tuple[T, int]:
    """Give a generator the words that it asks for; its result, and when the last of them came."""
    span = next(steps)
    while True:
        answer = await ask(span)
        try:
            span = steps.send(None if answer.data is None else _words(answer.data))
        except StopIteration as end:
            return end.value, answer.at_us


def _words(data: bytes) -> tuple[int, ...]:
    """Registers as numbers."""
    return struct.unpack(f">{len(data) // 2}H", data)


def _remember(memory: "OrderedDict[K, T]", key: K, what: T, most: int) -> None:
    memory[key] = what
    if len(memory) > most:
        memory.popitem(last=False)
