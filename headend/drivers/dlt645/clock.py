"""Clocks of DL/T 645 meters: read as date and time of day, told by broadcast, written with a password.

A broadcast (control code 08, address 99..99) is answered by nobody. By the standard a meter takes it once a
day, within five minutes of its own time, and not within five minutes of midnight, when it freezes its
registers; we keep to that before we send. (Stated as makers' manuals tell it; the clause itself is not at
hand.)
"""

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from headend.drivers.commands.clock import ClockChange, ClockRules
from protocols.dlms.cosem_time import local_to_utc
from protocols.dlt645 import conversation as dlt
from protocols.dlt645.identifiers import DataId
from protocols.dlt645.values import decode
from protocols.errors import LocalProtocolError, RemoteProtocolError
from schemas.address import LinkAddress
from schemas.clock import ClockReading
from schemas.line_model import LineModel

DATE: Final = DataId.parse("04-00-01-01")
TIME: Final = DataId.parse("04-00-01-02")
#: A meter takes a broadcast within so much of its own time, and not so near to midnight.
WITHIN: Final = timedelta(minutes=5)
#: A round trip of so many seconds is taken as it is; of longer ones the best of some counts.
SHORT_S: Final = 1.0
READINGS: Final = 4
_SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)
_MINUTE: Final = "00:00"
_WEEK: Final = 7


class Dlt645Clocks:
    """The `headend.drivers.commands.clock.LineClockConversation` of DL/T 645."""

    def __init__(self, model: LineModel, address: LinkAddress, now: Callable[[], datetime]) -> None:
        self._model = model
        self._link = address
        self._now = now
        self._address: str

    @property
    def clock_rules(self) -> ClockRules:
        """What the model says."""
        clock = self._model.clock
        changes = [ClockChange.BROADCAST] if clock.broadcast else []
        changes += [ClockChange.SET] if clock.password is not None else []
        return ClockRules(tuple(changes), WITHIN)

    def day_began(self, moment: datetime) -> datetime:
        """See `LineClockConversation`."""
        local = moment.astimezone(self._zone)
        return local.replace(hour=0, minute=0, second=0, microsecond=0).astimezone(moment.tzinfo)

    def takes_broadcast(self, moment: datetime) -> datetime:
        """See `LineClockConversation`."""
        local = moment.astimezone(self._zone)
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
        for edge in (midnight, midnight + _DAY):
            if abs(local - edge) <= 2 * WITHIN:  # its clock may be off by as much as it takes
                return (edge + 2 * WITHIN + _SECOND).astimezone(moment.tzinfo)
        return moment

    async def read_clock(self) -> ClockReading:
        """Time of day and date, read again while the round trip is long. Raises RemoteProtocolError,
        AbnormalAnswer, LinkError."""
        loop = asyncio.get_running_loop()
        best: ClockReading | None = None
        for _ in range(READINGS):
            day = await self._text(DATE)
            asked_at, began = self._now(), loop.time()
            time = await self._text(TIME)
            round_trip = timedelta(seconds=loop.time() - began)
            if time.startswith(_MINUTE):  # midnight may have been between the two
                day = await self._text(DATE)
            found = self._reading(day, time, asked_at, round_trip)
            if best is None or found.uncertainty < best.uncertainty:
                best = found
            if round_trip <= timedelta(seconds=SHORT_S):
                break
        if best is None:
            raise AssertionError("a clock is read once at least")
        return best

    def _reading(self, day: str, time: str, asked_at: datetime, round_trip: timedelta) -> ClockReading:
        try:
            local = datetime.fromisoformat(f"{day.partition(' ')[0]}T{time}")
        except ValueError as error:
            raise RemoteProtocolError(f"{self._link}: its clock shows no date and time: {error}") from error
        at = asked_at + round_trip / 2
        shown = local_to_utc(local, self._zone)
        return ClockReading(at, shown + _SECOND / 2 - at, round_trip / 2 + _SECOND)

    async def _text(self, di: DataId) -> str:
        readings = decode(di, await self._exchange(dlt.read(self._address, di)))
        if not readings or not isinstance(readings[0].value, str):
            raise RemoteProtocolError(f"{self._link}: {di.name} tells no time")
        return readings[0].value

    async def shift_clock(self, by: timedelta) -> None:
        """There is no such thing. Raises LocalProtocolError."""
        raise LocalProtocolError("DL/T 645 shifts no clocks")

    async def set_clock(self, known: ClockReading, change: ClockChange) -> None:
        """Write date and time of day with the model's password. Raises AbnormalAnswer, LinkError."""
        clock = self._model.clock
        if change is not ClockChange.SET or clock.password is None:
            raise LocalProtocolError(f"model {self._model.name} has no password for its clock in [clock]")
        local = await self._at_a_second()
        password, operator = bytes.fromhex(clock.password.get_secret_value()), bytes.fromhex(clock.operator)
        weekday = local.isoweekday() % _WEEK  # Sunday is 0
        values = ((TIME, local.strftime("%H%M%S")), (DATE, local.strftime("%y%m%d") + f"{weekday:02d}"))
        for di, digits in values:
            value = bytes(reversed(bytes.fromhex(digits)))
            await self._exchange(dlt.write(self._address, di, value, password=password, operator=operator))

    async def broadcast_clock(self) -> None:
        """See `LineClockConversation`. Raises LocalProtocolError around midnight."""
        if (until := self.takes_broadcast(self._now())) > self._now():
            raise LocalProtocolError(f"around midnight no meter takes a broadcast: not before {until}")
        local = await self._at_a_second()
        await self._exchange(dlt.broadcast_time(local.strftime("%y%m%d%H%M%S")))

    async def _at_a_second(self) -> datetime:
        """The local time when the next second begins, then."""
        now = self._now()
        wanted = now.replace(microsecond=0) + _SECOND
        await asyncio.sleep((wanted - now).total_seconds())
        return wanted.astimezone(self._zone)

    @property
    def _zone(self) -> ZoneInfo:
        if self._model.tz is None:
            raise LocalProtocolError(f"model {self._model.name} has no zone for its clock")
        return self._model.tz

    @abstractmethod
    async def _exchange(self, request: dlt.Request) -> bytes:
        """One request and its answer."""
