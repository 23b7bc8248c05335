"""Programs: what is applied to meters. A program is a document; its digest is what people approve of."""

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, TypeAdapter

from schemas.programs.clock import ClockProgram
from schemas.programs.firmware import FirmwareProgram
from schemas.programs.keys import KeysProgram
from schemas.programs.parameters import ParametersProgram
from schemas.programs.switch import LimitProgram, SwitchProgram
from schemas.programs.tariff import TariffProgram


class ProgramKind(StrEnum):
    """What is done to a meter."""

    CLOCK = "clock"
    TARIFF = "tariff"
    FIRMWARE = "firmware"
    SWITCH = "switch"
    LIMIT = "limit"
    KEYS = "keys"
    PARAMETERS = "parameters"


Program = Annotated[
    ClockProgram
    | TariffProgram
    | FirmwareProgram
    | SwitchProgram
    | LimitProgram
    | KeysProgram
    | ParametersProgram,
    Field(discriminator="kind"),
]
#: Reads and writes programs as the database and the API have them.
PROGRAM: Final[TypeAdapter[Program]] = TypeAdapter(Program)


def digest(program: Program) -> bytes:
    """SHA-256 of the program in its canonical form: JSON with sorted keys and without blanks."""
    plain = PROGRAM.dump_python(program, mode="json")
    return hashlib.sha256(canonical(plain)).digest()


def canonical(plain: object) -> bytes:
    """JSON of plain values with one spelling: sorted keys, no blanks, UTF-8."""
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
