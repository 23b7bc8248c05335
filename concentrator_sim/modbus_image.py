"""Images of Modbus slaves: the registers and files of `schemas.register_firmware` over an `ImageStore`.

States have the numbers of image_transfer_status (class 18): the model of the simulated meter says so.
"""

from collections.abc import Callable
from typing import Final

from concentrator_sim.image import FIRST_HARDWARE, ImageStore
from concentrator_sim.meter import SimulatedMeter
from protocols.dlms.enums import ActionResult
from protocols.modbus.requests import MAX_FILE_READ, FilePart
from schemas.register_firmware import FileFirmware
from schemas.register_model import RegisterModel

#: Exceptions of the application protocol.
ILLEGAL_ADDRESS: Final = 2
ILLEGAL_VALUE: Final = 3
DEVICE_FAILURE: Final = 4
ACKNOWLEDGED: Final = 5
_EXCEPTIONS: Final = {
    ActionResult.SUCCESS: None,
    ActionResult.TEMPORARY_FAILURE: ACKNOWLEDGED,
    ActionResult.HARDWARE_FAULT: DEVICE_FAILURE,
}


class ImageFiles:
    """The image of one slave, whose model has ``firmware``. Refusals are told as exception codes;
    ``clock`` gives Unix seconds."""

    def __init__(
        self, meter: SimulatedMeter, model: RegisterModel, firmware: FileFirmware, clock: Callable[[], int]
    ) -> None:
        self._meter = meter
        self._model = model
        self._said = firmware
        self._clock = clock
        self._size = 0
        self._identifier = b""

    def _store(self) -> ImageStore:
        store = self._meter.part(ImageStore)
        store.enabled = True
        store.settle(self._clock())
        return store

    def shows(self, name: str) -> bytes | None:
        """What the register of this name shows, filled up with zeros; None: it is no affair of images."""
        said, store = self._said, self._store()
        told = {
            said.version: store.version.encode(),
            said.hardware: FIRST_HARDWARE.encode(),
            said.status: store.status.to_bytes(2),
            said.size: store.size.to_bytes(4),
            said.identifier: store.identifier,
            said.control: b"",
        }
        found = told.get(name)
        return None if found is None else found.ljust(2 * self._model.registers[name].width, b"\0")

    def write(self, address: int, data: bytes) -> int | None:
        """Write holding registers: a whole one of those that can be."""
        said, store, registers = self._said, self._store(), self._model.registers
        name = next(
            (one for one in (said.control, said.size, said.identifier) if registers[one].at == address), None
        )
        if name is None or len(data) != 2 * registers[name].width:
            return ILLEGAL_ADDRESS
        if name == said.size:
            self._size = int.from_bytes(data)
            return None
        if name == said.identifier:
            self._identifier = data.rstrip(b"\0")
            return None
        match int.from_bytes(data):
            case said.begin:
                result = store.initiate(self._identifier, self._size)
            case said.verify:
                result = store.verify(self._clock())
            case said.activate:
                result = store.activate(self._clock())
            case _:
                return ILLEGAL_VALUE
        return _EXCEPTIONS.get(result, DEVICE_FAILURE)

    def write_file(self, part: FilePart) -> int | None:
        """Write a block."""
        number, store = self._said.number(part.file, part.record), self._store()
        if number is None:
            return ILLEGAL_ADDRESS
        left = store.size - number * self._said.block_bytes
        if left <= 0 or len(part.data) != min(left + left % 2, self._said.block_bytes):
            return ILLEGAL_ADDRESS
        return _EXCEPTIONS.get(store.write(number, part.data[:left], self._clock()), DEVICE_FAILURE)

    def read_file(self, part: FilePart) -> bytes | int:
        """Read registers of the bitmap."""
        bitmap = self._store().bitmap
        told = bitmap.octets.ljust(-(-bitmap.length // 16) * 2, b"\0")
        begin, end = 2 * part.record, 2 * (part.record + part.registers)
        if part.file != self._said.bitmap_file or not 0 < part.registers <= MAX_FILE_READ or end > len(told):
            return ILLEGAL_ADDRESS
        return told[begin:end]
