"""Single Action Schedule (Blue Book, class 22): a script that runs at one or several moments."""

import datetime as dt
from dataclasses import dataclass
from typing import Final

from protocols.dlms import axdr
from protocols.dlms.axdr import Data
from protocols.dlms.cosem.forms import elements_of, fields_of, logical_name_of, natural_of, octets_of
from protocols.dlms.cosem_time import CosemDate, CosemTime
from protocols.dlms.obis import Obis
from protocols.errors import RemoteProtocolError

EXECUTED_SCRIPT: Final = 2
TYPE: Final = 3
EXECUTION_TIME: Final = 4
#: The scheduler of image activation, and the table with the script that activates (its selector 1).
IMAGE_ACTIVATION: Final = Obis.parse("0-0:15.0.2*255")
IMAGE_ACTIVATION_SCRIPTS: Final = Obis.parse("0-0:10.0.107*255")


@dataclass(frozen=True, slots=True)
class Execution:
    """A moment of the meter's own clock; parts left open match any."""

    time: CosemTime
    date: CosemDate

    @classmethod
    def at(cls, local: dt.datetime) -> "Execution":
        """The local time of the meter's clock, to the second."""
        return cls(
            CosemTime(local.hour, local.minute, local.second, 0),
            CosemDate(local.year, local.month, local.day),
        )

    @classmethod
    def decode(cls, data: Data) -> "Execution":
        """From an element of execution_time: { time, date }, octet-strings of 4 and 5."""
        time, date = fields_of(data, 2, "execution time")
        return cls(
            CosemTime.from_bytes(octets_of(time, "time")), CosemDate.from_bytes(octets_of(date, "date"))
        )

    def encode(self) -> Data:
        """As an element of execution_time."""
        return axdr.structure(axdr.octets(self.time.to_bytes()), axdr.octets(self.date.to_bytes()))

    def moment(self) -> dt.datetime:
        """As a naive local time. Raises RemoteProtocolError where a part is open."""
        date, time = self.date, self.time
        parts = (date.year, date.month, date.day, time.hour, time.minute)
        if None in parts:
            raise RemoteProtocolError(f"{date} {time} is no single moment")
        year, month, day, hour, minute = (part or 0 for part in parts)
        try:
            return dt.datetime(year, month, day, hour, minute, time.second or 0)  # noqa: DTZ001 - local
        except ValueError as exc:
            raise RemoteProtocolError(f"{date} {time} does not exist") from exc


def execution_times(data: Data) -> tuple[Execution, ...]:
    """Attribute execution_time."""
    return tuple(Execution.decode(item) for item in elements_of(data, "execution_time"))


def encode_execution_times(times: "tuple[Execution, ...]") -> Data:
    """Attribute execution_time."""
    return axdr.array(one.encode() for one in times)


def executed_script(data: Data) -> tuple[Obis, int]:
    """Attribute executed_script: script table and selector."""
    name, selector = fields_of(data, 2, "executed_script")
    return logical_name_of(name), natural_of(selector, "script selector")


def encode_executed_script(table: Obis, selector: int) -> Data:
    """Attribute executed_script."""
    return axdr.structure(axdr.octets(table.raw), axdr.u16(selector))
