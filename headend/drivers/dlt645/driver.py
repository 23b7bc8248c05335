"""DL/T 645 behind the contract."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from headend.clock import utc_now
from headend.drivers.commands.clock import ClockConversation, LineClockConversation
from headend.drivers.commands.switch import Switchable
from headend.drivers.commands.tariff import TariffConversation
from headend.drivers.contract import Conversation, Feature, Way
from headend.drivers.dlt645.conversation import Dlt645Conversation
from headend.drivers.line import drain, let_go, open_line
from headend.drivers.line_driver import LineDriver, LineTiming, way_of
from headend.transport.stream import Stream
from protocols.errors import LocalProtocolError
from schemas.address import LinkAddress, Scheme
from schemas.register_model import Sampling

#: Opens the stream of a transparent MQTT gateway, by address and seconds to wait.
DialMqtt = Callable[[LinkAddress, float], Awaitable[Stream]]
_BAUD: Final = 2400


class Dlt645Driver(LineDriver):
    """The `headend.drivers.contract.Driver` of DL/T 645-2007.

    Args:
        dial_mqtt: None where there is no broker.
    """

    language = "dlt645"
    schemes = frozenset({Scheme.DLT645_TCP, Scheme.DLT645_SERIAL, Scheme.DLT645_MQTT})

    def __init__(
        self,
        *,
        profile_folders: tuple[Path, ...] = (),
        sampling: Sampling | None = None,
        timing: LineTiming | None = None,
        dial_mqtt: DialMqtt | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        super().__init__(profile_folders=profile_folders, sampling=sampling, timing=timing, now=now)
        self._dial_mqtt = dial_mqtt

    def features(self, model: str) -> frozenset[Feature]:
        """As all lines'; clocks, breakers, tariffs where zone and passwords are known. Raises ModelError."""
        found = self._model(model)
        can_change = found.tz is not None and (found.clock.broadcast or found.clock.password is not None)
        can_switch = found.tz is not None and found.switch is not None
        takes = found.tz is not None and found.tariff is not None
        programs = {
            Feature.CLOCK: can_change,
            Feature.LINE_CLOCK: can_change and found.clock.password is None,
            Feature.SWITCH: can_switch,
            Feature.TARIFF: takes,
        }
        return super().features(model) | {one for one, can in programs.items() if can}

    @asynccontextmanager
    async def open(self, way: Way, *, answer_s: float | None = None) -> AsyncIterator[Conversation]:
        """The line, silent. Raises LinkError, LinkTimeout; LocalProtocolError without a broker."""
        line, timing = way_of(way), self._timing
        stream = await self._stream(line.address, timing.connect_s)
        try:
            await drain(stream, timing.quiet_s)
            yield Dlt645Conversation(
                stream,
                line,
                answer_s=timing.answer_s if answer_s is None else answer_s,
                now=self._now,
                way_to=self._way,
            )
        finally:
            await let_go(stream)

    async def _stream(self, address: LinkAddress, connect_s: float) -> Stream:
        if address.scheme is not Scheme.DLT645_MQTT:
            return await open_line(address, connect_s=connect_s, baud=_BAUD, parity="E")
        if self._dial_mqtt is None:
            raise LocalProtocolError(f"{address}: this head-end has no broker: set HEADEND_MQTT_URL")
        return await self._dial_mqtt(address, connect_s)


if TYPE_CHECKING:  # what `features` says, the conversation can
    _CLOCK: type[ClockConversation] = Dlt645Conversation
    _LINE: type[LineClockConversation] = Dlt645Conversation
    _SWITCH: type[Switchable] = Dlt645Conversation
    _TARIFF: type[TariffConversation] = Dlt645Conversation
