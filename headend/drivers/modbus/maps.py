"""What a slave's registers mean: by its model's table, or, for SunSpec, by what it tells itself.

Both give `Reading`s. What was learnt of single meters is remembered by the `Memory` that all conversations
share: SunSpec maps, and who does not let unwanted registers be read along.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Generator, Sequence
from datetime import datetime
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


class Reading(NamedTuple):
    """A value, or the reason why there is none, and when the answer came that says so (aware)."""

    value: RegisterValue
    at: datetime


class Words(NamedTuple):
    """The registers of one read, or the slave's refusal, and when the answer came."""

    words: Sequence[int] | None
    refusal: str | None
    at: datetime


Ask = Callable[[Span], Awaitable[Words]]


class Memory:
    """What was learnt of meters, by their numbers; bounded, the oldest forgotten first."""

    def __init__(self) -> None:
        self._devices: OrderedDict[int, sunspec.Device] = OrderedDict()
        self._gapless: OrderedDict[int, None] = OrderedDict()
        self._choices: OrderedDict[tuple[str, tuple[str, ...]], tuple[str, ...]] = OrderedDict()
        self._plans: OrderedDict[tuple[str, bool, tuple[str, ...]], Readout] = OrderedDict()

    async def read_quantities(
        self, meter_id: int, model: RegisterModel, names: tuple[str, ...], ask: Ask
    ) -> list[Reading]:
        """The values that the columns of the load curve are made of; ``names`` are their registers."""
        if model.map == "sunspec":
            return [one for one in await self._sunspec(meter_id, ask) if one.value.quantity is not None]
        return await self._registers(meter_id, model, names, ask)

    async def read_codes(
        self, meter_id: int, model: RegisterModel, codes: tuple[str, ...], ask: Ask
    ) -> list[Reading]:
        """The values of these OBIS codes, as far as the meter has them; no codes: all that have one."""
        if model.map == "sunspec":
            found = await self._sunspec(meter_id, ask)
            return [one for one in found if one.value.obis and (not codes or one.value.obis in codes)]
        names = self._named(model, codes)
        return await self._registers(meter_id, model, names, ask) if names else []

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

    async def _registers(
        self, meter_id: int, model: RegisterModel, names: tuple[str, ...], ask: Ask
    ) -> list[Reading]:
        if meter_id not in self._gapless:
            readings, is_refused = await _read(self._planned(model, names), ask)
            if not is_refused:
                return readings
            # A slave may refuse a read for a register in it that nobody wanted.
            _remember(self._gapless, meter_id, None, MAX_METERS)
        return (await _read(self._planned(model, names, gapless=True), ask))[0]

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

    async def _sunspec(self, meter_id: int, ask: Ask) -> list[Reading]:
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

    async def _poll(self, device: sunspec.Device, ask: Ask) -> list[Reading]:
        # A device that tells its meter twice, in integers and in floats, tells the same twice.
        values, at = await _follow(sunspec.poll(device.meters[0]), ask)
        return [Reading(value, at) for value in values]


async def _read(readout: Readout, ask: Ask) -> tuple[list[Reading], bool]:
    """The values, and whether a block was refused."""
    answers = [await ask(block) for block in readout.blocks]
    values = readout.decode({block: one.words for block, one in zip(readout.blocks, answers, strict=True)})
    readings = []
    is_refused = False
    for value, number in zip(values, readout.block_of, strict=True):
        answer = answers[number]
        if answer.refusal is not None:
            value, is_refused = value._replace(reason=answer.refusal), True
        readings.append(Reading(value, answer.at))
    return readings, is_refused


async def _follow(steps: Generator[Span, Sequence[int] | None, T], ask: Ask) -> tuple[T, datetime]:
    """Give a generator the words that it asks for; its result, and when the last of them came."""
    span = next(steps)
    while True:
        answer = await ask(span)
        try:
            span = steps.send(answer.words)
        except StopIteration as end:
            return end.value, answer.at


def _remember(memory: "OrderedDict[K, T]", key: K, what: T, most: int) -> None:
    memory[key] = what
    if len(memory) > most:
        memory.popitem(last=False)
