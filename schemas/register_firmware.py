"""How meters that are read by registers take new programs: by file records (functions 20 and 21).

Modbus says how records of files are written and read, and nothing of firmware. What is told here is this
project's own convention, general enough for meters that have the same parts elsewhere:

- the image's size and identifier are written to registers, then the code ``begin`` to the control register:
  whatever the meter held before is gone, and the two registers tell from then on what was begun;
- the image lies in files from ``file`` on, a block of ``block_bytes`` after the other, no block in two files;
  the last register of an odd image is filled with a zero;
- the meter tells which blocks it holds in file ``bitmap_file``: 16 in a register, the first the highest bit;
- ``verify`` and ``activate`` are codes too, and the status register tells how the meter stands; what it
  verifies by is in the image itself.
"""

from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

#: Registers of a file: record numbers are 0 to 9999 (Modbus application protocol, 6.14).
_FILE: Final = 10_000
_LAST_FILE: Final = 0xFFFF
#: Bits of a register.
_BITS: Final = 16

ImageState = Literal[
    "none", "initiated", "verifying", "verified", "verification_failed", "activating", "activated",
    "activation_failed",
]  # fmt: skip


class FileFirmware(BaseModel):
    """See the module. ``version`` to ``size`` are names of registers, ``states`` says what the codes of the
    status register mean. A block has at most 242 bytes: what is written can then be read back, too.
    ``restart_s`` is how long the meter is away when it activates, ``verify_s`` how long it verifies at most.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    hardware: str | None = None
    control: str
    status: str
    identifier: str
    size: str
    file: int = Field(ge=2, le=_LAST_FILE)
    bitmap_file: int = Field(ge=1, le=_LAST_FILE)
    block_bytes: int = Field(ge=2, le=242, multiple_of=2)
    begin: int = Field(ge=0, le=0xFFFF)
    verify: int = Field(ge=0, le=0xFFFF)
    activate: int = Field(ge=0, le=0xFFFF)
    states: dict[int, ImageState]
    restart_s: float = Field(default=60, ge=0, le=86_400)
    verify_s: float = Field(default=1_800, gt=0, le=86_400)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.bitmap_file >= self.file:
            raise ValueError("bitmap_file must be below file: the image goes on in the files above")
        if len({self.begin, self.verify, self.activate}) < 3:
            raise ValueError("begin, verify and activate must be three codes")
        return self

    @property
    def block_registers(self) -> int:
        """Registers of a block."""
        return self.block_bytes // 2

    @property
    def most_blocks(self) -> int:
        """Blocks for which there is room, in files and in the bitmap."""
        return min((_LAST_FILE + 1 - self.file) * self._per_file, _FILE * _BITS)

    def place(self, number: int) -> tuple[int, int]:
        """File and first register of a block."""
        file, block = divmod(number, self._per_file)
        return self.file + file, block * self.block_registers

    def number(self, file: int, record: int) -> int | None:
        """The block that begins there, None where none does."""
        block, inside = divmod(record, self.block_registers)
        if file < self.file or inside or block >= self._per_file:
            return None
        return (file - self.file) * self._per_file + block

    @property
    def _per_file(self) -> int:
        return _FILE // self.block_registers
