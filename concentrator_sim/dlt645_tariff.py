"""Tariff tables of a DL/T 645 meter: two sets, of which one counts; written with a password.

Energies of single tariffs these meters do not show: what is written is kept, told, and changes its set at the
switching time by the meter's own clock.
"""

import datetime as dt
from typing import Final

from concentrator_sim.dlt645_clock import CHINA, PASSWORD
from concentrator_sim.line_meters import LineMeter
from concentrator_sim.object_model import Meter
from protocols.dlt645 import tariff as tables
from protocols.dlt645.control import ErrorWord
from protocols.dlt645.identifiers import DataId
from protocols.errors import RemoteProtocolError

_KEYS: Final = 8
_DEFAULT_ZONES: Final = tables.encode_zones([tables.Zone(1, 1, 1)])
_DEFAULT_TABLE: Final = tables.encode_table(
    [tables.Period(0, 2), tables.Period(360, 1), tables.Period(1320, 2)]
)


class TariffTables:
    """What was written; which sets count."""

    def __init__(self, meter: Meter) -> None:
        self.values: dict[DataId, bytes] = {
            tables.zones_id(1): _DEFAULT_ZONES,
            tables.table_id(1, 1): _DEFAULT_TABLE,
            tables.SWITCH_ZONES: tables.NEVER,
            tables.SWITCH_DAYS: tables.NEVER,
        }
        self._sets = {tables.SWITCH_ZONES: 1, tables.SWITCH_DAYS: 1}
        self._pending: set[DataId] = set()

    def settle(self, shown_s: int) -> None:
        """Sets change whose time has come."""
        local = dt.datetime.fromtimestamp(shown_s, CHINA).replace(tzinfo=None)
        for di in tuple(self._pending):
            at = tables.decode_time(self.values[di])
            if at is not None and at <= local:
                self._sets[di] = 3 - self._sets[di]
                self._pending.discard(di)

    def write(self, di: DataId, value: bytes) -> ErrorWord:
        """0: it is done."""
        try:
            if di in self._sets:
                tables.decode_time(value)
                self._pending.add(di)
            elif di.di0:
                tables.decode_table(value)
            else:
                tables.decode_zones(value)
        except RemoteProtocolError:
            return ErrorWord.OTHER
        if len(value) > 3 * tables.ROWS:
            return ErrorWord.TOO_MANY_DAY_PERIODS if di.di0 else ErrorWord.TOO_MANY_YEAR_ZONES
        self.values[di] = value
        return ErrorWord(0)

    @property
    def status(self) -> bytes:
        """The status word."""
        return tables.encode_status(self._sets[tables.SWITCH_ZONES], self._sets[tables.SWITCH_DAYS])


def is_tariff(di: DataId) -> bool:
    """Whether it is one of these."""
    if di in (tables.SWITCH_ZONES, tables.SWITCH_DAYS):
        return True
    return di.di3 == 4 and di.di2 in tables.SETS and di.di1 == 0 and di.di0 <= tables.TABLES


def read(one: LineMeter, di: DataId) -> bytes | None:
    """Its value; None where the table was never written."""
    found = one.meter.part(TariffTables)
    found.settle(one.shown_s)
    return found.values.get(di)


def status(one: LineMeter) -> bytes:
    """Its bits of status word 3; zero where nothing was ever written."""
    found = one.meter.part_if_any(TariffTables)
    if found is None:
        return bytes(2)
    found.settle(one.shown_s)
    return found.status


def write(one: LineMeter, di: DataId, data: bytes) -> ErrorWord:
    """What is wrong with writing it behind password and operator code; 0: it is done."""
    if data[: len(PASSWORD)] != PASSWORD:
        return ErrorWord.NOT_AUTHORISED
    found = one.meter.part(TariffTables)
    found.settle(one.shown_s)
    return found.write(di, data[_KEYS:])
