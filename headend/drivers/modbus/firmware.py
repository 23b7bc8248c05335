"""New programs for slaves, by file records: see `schemas.register_firmware` for what is agreed."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from headend.drivers.commands.firmware import HeldImage, ImageState, ImageStatus, Pace, Running
from headend.drivers.modbus.bus import Bus
from headend.drivers.modbus.conversation import ModbusConversation, ModbusWay
from headend.drivers.modbus.maps import Memory
from protocols.errors import LocalProtocolError, ModbusRefused, PeerRefused, RemoteProtocolError
from protocols.modbus.plan import Span, plan
from protocols.modbus.requests import MAX_FILE_READ, Request, read_file, write_file, write_registers
from protocols.modbus.values import text
from schemas.register_firmware import FileFirmware
from schemas.register_model import MapRegister

#: Exceptions that say "I am at it": acknowledged, and busy.
_AT_IT: Final = frozenset({5, 6})
_BITS: Final = 16


class ModbusFirmware(ModbusConversation):
    """A `ModbusConversation` that is `headend.drivers.commands.firmware.Upgradable`, too. ``firmware`` is
    what the model says. All methods raise as `Bus.ask`."""

    def __init__(
        self,
        bus: Bus,
        way: ModbusWay,
        firmware: FileFirmware,
        memory: Memory,
        answer_s: float,
        now: Callable[[], datetime],
    ) -> None:
        super().__init__(bus, way, memory, answer_s, now)
        self._firmware = firmware

    @property
    def pace(self) -> Pace:
        """As the model says; such meters have no timer."""
        return Pace(self._firmware.restart_s, self._firmware.verify_s, False)

    async def read_running(self) -> Running:
        """The text of the version's registers, and of the hardware's."""
        said = self._firmware
        names = [said.version, *([] if said.hardware is None else [said.hardware])]
        told = [text(data) for data in await self._read(*names)]
        if told[0] is None:
            raise RemoteProtocolError(f"register {said.version} tells no version")
        return Running(told[0], told[1] if len(told) > 1 else None)

    async def read_image_state(self) -> ImageState:
        """Status; the bitmap while it takes blocks, what was begun when it is verified."""
        said = self._firmware
        raw_status, raw_size, raw_identifier = await self._read(said.status, said.size, said.identifier)
        size = int.from_bytes(raw_size)
        status = self._status(raw_status)
        missing: tuple[int, ...] = ()
        count = 0
        held: tuple[HeldImage, ...] = ()
        if status is ImageStatus.INITIATED:
            count = self._blocks_in(size)  # 0 where it cannot be: then it is no image of ours
            bitmap = await self._read_bitmap(count)
            missing = tuple(n for n in range(count) if not bitmap[n // 8] >> (7 - n % 8) & 1)
        elif status is ImageStatus.VERIFIED:
            held = (HeldImage(size, raw_identifier.rstrip(b"\0"), b""),)
        return ImageState(status, True, said.block_bytes, missing, count, held)

    async def enable_images(self) -> None:
        """Nothing: such meters take images at any time."""

    async def initiate_image(self, identifier: bytes, size: int, sha256: bytes) -> None:
        """Write size and identifier, then ``begin``; no digest is told. Raises LocalProtocolError for
        what has no room."""
        said = self._firmware
        name, most = self._way.model.name, said.most_blocks * said.block_bytes
        if not self._blocks_in(size):
            raise LocalProtocolError(f"an image of {size} bytes: model {name} takes 1 to {most}")
        room = 2 * self._at(said.identifier).width
        if len(identifier) > room or identifier.endswith(b"\0"):
            raise LocalProtocolError(
                f"identifier {identifier.hex()} of the package: model {name} takes up to {room} bytes, the "
                "last of them not 0"
            )
        await self._write(said.size, size.to_bytes(4))
        await self._write(said.identifier, identifier.ljust(room, b"\0"))
        await self._command(said.begin)

    async def send_block(self, number: int, value: bytes) -> bool:
        """Write the block's registers of its file."""
        file, record = self._firmware.place(number)
        await self._request(write_file(file, record, value + bytes(len(value) % 2)))
        return True

    async def verify_image(self) -> bool:
        """Write ``verify``, and look at the status."""
        said = self._firmware
        try:
            await self._command(said.verify)
        except ModbusRefused as refused:
            if refused.code not in _AT_IT:
                raise
            return False
        (raw,) = await self._read(said.status)
        status = self._status(raw)
        if status is ImageStatus.VERIFICATION_FAILED:
            raise PeerRefused("the meter found the image wrong")
        return status is ImageStatus.VERIFIED

    async def activate_image(self) -> None:
        """Write ``activate``."""
        try:
            await self._command(self._firmware.activate)
        except ModbusRefused as refused:
            if refused.code not in _AT_IT:
                raise

    async def activate_image_at(self, moment: datetime) -> None:
        """Raises LocalProtocolError: see `pace`."""
        raise LocalProtocolError(f"model {self._way.model.name} has no timer that activates images")

    # ---- underneath ---------------------------------------------------------------------------------

    def _status(self, raw: bytes) -> ImageStatus:
        said, code = self._firmware, int.from_bytes(raw)
        if code not in said.states:
            raise RemoteProtocolError(f"register {said.status} tells {code}: no state that the model knows")
        return ImageStatus(said.states[code])

    async def _read_bitmap(self, count: int) -> bytes:
        registers, found = -(-count // _BITS), b""
        while (there := len(found) // 2) < registers:
            part = min(registers - there, MAX_FILE_READ)
            found += await self._request(read_file(self._firmware.bitmap_file, there, part))
        return found

    def _blocks_in(self, size: int) -> int:
        """How many blocks an image of ``size`` bytes has; 0 where there is no room for it."""
        count = -(-size // self._firmware.block_bytes)
        return count if count <= self._firmware.most_blocks else 0

    async def _command(self, code: int) -> None:
        await self._write(self._firmware.control, code.to_bytes(2))

    async def _write(self, name: str, data: bytes) -> None:
        await self._request(write_registers(self._at(name).at, data))

    async def _read(self, *names: str) -> list[bytes]:
        """The bytes of these registers, in as few reads as the model lets."""
        spans = [Span(one.space, one.at, one.width) for one in map(self._at, names)]
        blocks = {}
        for block in plan(spans, self._way.model.reads):
            answer = await self._bus.read(self._way.unit, block, self._answer_s)
            self._answers_s.append(answer.took_s)
            blocks[block] = answer.data
        found = []
        for span in spans:
            block = next(
                one for one in blocks
                if one.space is span.space and one.address <= span.address and span.end <= one.end
            )  # fmt: skip
            at = 2 * (span.address - block.address)
            found.append(blocks[block][at : at + 2 * span.count])
        return found

    async def _request(self, request: Request) -> bytes:
        answer = await self._bus.ask(self._way.unit, request, self._answer_s)
        self._answers_s.append(answer.took_s)
        return answer.data

    def _at(self, name: str) -> MapRegister:
        return self._way.model.registers[name]
