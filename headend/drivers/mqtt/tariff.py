"""Tariff programs of devices of the broker: whole, in messages of our own (`schemas.tariff_message`).

Each calendar has special days of its own, so that all of a program begins to count at one moment.
"""

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from pydantic import ValidationError

from headend.drivers.commands.tariff import TariffPart
from headend.drivers.mqtt.exchanging import Exchanging, new_id
from protocols.errors import LocalProtocolError, PeerRefused, RemoteProtocolError
from protocols.mqtt import messages, tariffs
from schemas.mqtt_model import MqttTariff
from schemas.tariff.calendar import Compiled, MeterTariff
from schemas.tariff_message import (
    TariffActivate,
    TariffAnswer,
    TariffAsk,
    TariffRefused,
    TariffRequest,
    TariffTold,
    TariffWrite,
)

#: So long a request may lie at the broker and be good: devices' clocks are off by less.
_GOOD: Final = timedelta(minutes=10)


class TariffCommands(Exchanging):
    """The `headend.drivers.commands.tariff.TariffConversation` of MQTT."""

    _now: Callable[[], datetime]

    @property
    @abstractmethod
    def _tariff(self) -> MqttTariff:
        """As the model says. Raises LocalProtocolError where it says nothing."""

    async def read_tariff(self, days: Collection[int] | None = None) -> MeterTariff:
        """How the device stands."""
        told = await self._ask_tariff(TariffAsk(id=new_id()))
        active = tariffs.compiled_of(told.active)
        passive = None if told.passive is None else tariffs.compiled_of(told.passive)
        at = told.activates_at
        return MeterTariff(
            active.calendar,
            None if passive is None else passive.calendar,
            active.specials,
            None if at is None else datetime.fromtimestamp(at, UTC),
            passive_specials=() if passive is None else passive.specials,
        )

    def tariff_as_stored(self, wanted: Compiled) -> Compiled:
        """As it is."""
        return wanted

    async def tariff_misfits(self, wanted: Compiled, tariffs: Mapping[int, int]) -> list[str]:
        """Nothing: numbers of tariffs are what they are."""
        return []

    async def write_tariff(self, parts: Sequence[TariffPart], wanted: Compiled) -> None:
        """All of it in one message, whichever ``parts``; what waited before is replaced."""
        try:
            program = tariffs.tables_of(wanted)
        except ValidationError as error:
            raise LocalProtocolError(f"program {wanted.calendar.name}: {error.errors()[0]['msg']}") from error
        except ValueError as error:
            raise LocalProtocolError(f"program {wanted.calendar.name}: {error}") from error
        told = await self._ask_tariff(TariffWrite(id=new_id(), until=self._until(), program=program))
        if told.activates_at is not None:
            raise RemoteProtocolError("the device kept a time of activation for a program that has none")

    async def disarm_tariff(self) -> None:
        """The waiting program has no time any more."""
        await self._activate("never")

    async def activate_tariff(self, at: datetime | None) -> datetime | None:
        """At a whole second, or now. Raises LocalProtocolError for fractions of one."""
        if at is not None and at.microsecond:
            raise LocalProtocolError(f"{at}: devices of the broker activate at whole seconds")
        await self._activate("now" if at is None else int(at.timestamp()))
        return at

    async def _activate(self, at: int | Literal["now", "never"]) -> None:
        await self._ask_tariff(TariffActivate(id=new_id(), until=self._until(), at=at))

    def _until(self) -> int:
        return int((self._now() + _GOOD).timestamp())

    async def _ask_tariff(self, request: TariffRequest) -> TariffTold:
        """The answer of the same id. Raises PeerRefused, RemoteProtocolError, LinkError."""

        def take(payload: bytes) -> TariffAnswer | None:
            found = tariffs.decode(payload)
            if isinstance(found, TariffTold | TariffRefused) and found.id == request.id:
                return found
            return None

        said = self._tariff
        answer: TariffAnswer = await self._exchange(said.topic, messages.encode(request), said.answer, take)
        if isinstance(answer, TariffRefused):
            raise PeerRefused(f"the device refuses {request.format}: {answer.reason}")
        return answer
