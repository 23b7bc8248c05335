"""MQTT devices behind the contract: their curves come by themselves, their registers can be asked for.

Asking is publishing where the device listens and waiting where it answers, as its model says (``[ask]``).
What is retained is no answer. Where the model can, each asking has a word of its own, so that no late answer
is taken for another. Firmware and tariff
programs are in modules of their own (`firmware`, `tariff`).
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeVar

from headend.clock import utc_now
from headend.drivers.commands.firmware import Upgradable
from headend.drivers.commands.tariff import TariffConversation
from headend.drivers.contract import (
    Conversation,
    Curve,
    Feature,
    Recall,
    Refusal,
    RegisterReadout,
    Target,
    Way,
)
from headend.drivers.mqtt.firmware import FirmwareCommands
from headend.drivers.mqtt.message import read_object
from headend.drivers.mqtt.meters import Known
from headend.drivers.mqtt.sampling import Sampler
from headend.drivers.mqtt.tariff import TariffCommands
from headend.drivers.mqtt.told import Readings
from headend.drivers.mqtt.topics import fill
from headend.drivers.ways import settled, to_each
from protocols.dlms.obis import Obis
from protocols.errors import LinkTimeout, LocalProtocolError, PeerRefused
from protocols.mqtt import documents
from schemas.address import LinkAddress, Scheme
from schemas.mqtt_model import ASK, Firmware, MqttModel, MqttTariff, load_mqtt_model
from schemas.reading import Quality, ReadingBatch, registers_only

MQTT: Final = "mqtt"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_US: Final = timedelta(microseconds=1)
_VALUE: Final = 2
_ANSWER_S: Final = 10.0

T = TypeVar("T")


class Answer(NamedTuple):
    """A message that came while asking."""

    topic: str
    payload: bytes
    retained: bool


class Asking(Protocol):
    """A connection to the broker that is subscribed to where answers come."""

    async def publish(self, topic: str, payload: bytes) -> None:
        """Publish with QoS 1. Raises LinkError."""

    async def next(self) -> Answer:
        """The next message, waited for without end. Raises LinkError."""


class Exchange(Protocol):
    """Where devices can be asked: a broker."""

    def asking(self, *answers: str) -> AbstractAsyncContextManager[Asking]:
        """Subscribed to ``answers`` inside. Raises LinkError, and what the broker refuses as PeerRefused."""


@dataclass(frozen=True, slots=True)
class MqttWay:
    """How one device is reached: the `headend.drivers.contract.Way` of MQTT."""

    target: Target
    address: LinkAddress
    identity: str
    model: MqttModel

    def __str__(self) -> str:
        return str(self.address)


class MqttDriver:
    """The `headend.drivers.contract.Driver` of MQTT devices. Without ``exchange`` nobody can be asked."""

    names = (MQTT,)

    def __init__(
        self,
        exchange: Exchange | None = None,
        *,
        profile_folders: tuple[Path, ...] = (),
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._exchange = exchange
        self._folders = profile_folders
        self._now = now

    def features(self, model: str) -> frozenset[Feature]:
        """Registers, firmware and tariffs, where the model says how to ask. Raises ModelError."""
        loaded = load_mqtt_model(model, self._folders)
        said = {
            Feature.REGISTERS: loaded.ask,
            Feature.FIRMWARE: loaded.firmware,
            Feature.TARIFF: loaded.tariff,
        }
        return frozenset(feature for feature, how in said.items() if how is not None)

    def curves(self, model: str) -> tuple[Curve, ...]:
        """The curves that come by themselves. Raises ModelError."""
        loaded = load_mqtt_model(model, self._folders)
        return tuple(Curve(one.number, one.period_s, Recall.PUSHED) for one in loaded.curves)

    async def prepare(self, targets: Sequence[Target]) -> dict[int, Way | LocalProtocolError]:
        """Where each is asked."""
        return to_each(targets, self._way)

    def is_away(self, way: Way) -> bool:
        """Never known before it is asked."""
        return False

    @asynccontextmanager
    async def open(self, way: Way, *, answer_s: float | None = None) -> AsyncIterator[Conversation]:
        """A connection to the broker of its own. Raises LinkError, PeerRefused."""
        if not isinstance(way, MqttWay):
            raise TypeError(f"a way of MQTT is an MqttWay, not a {type(way).__name__}")
        if self._exchange is None:
            raise LocalProtocolError(f"{way}: this head-end has no broker: set HEADEND_MQTT_URL")
        nonce = secrets.token_hex(8)
        model = way.model
        spoken = [one.answer for one in (model.ask, model.firmware, model.tariff) if one is not None]
        answers = [fill(one, way.identity).replace(ASK, nonce) for one in spoken]
        async with self._exchange.asking(*answers) as asking:
            yield MqttConversation(asking, way, nonce, answer_s or _ANSWER_S, self._now)

    def _way(self, target: Target) -> MqttWay:
        """Raises LocalProtocolError, saying what of the meter's settings to change."""
        meter = target.meter
        model, address = settled(target, partial(load_mqtt_model, folders=self._folders))
        if address.scheme is not Scheme.MQTT or address.identity is None:
            raise LocalProtocolError(f"{meter.asset_id}: {address} is no device of a broker, as mqtt:NAME is")
        if model.ask is None and model.firmware is None and model.tariff is None:
            raise LocalProtocolError(
                f"{meter.asset_id}: meters of model {model.name} push, and cannot be asked"
            )
        return MqttWay(target, address, address.identity, model)


class MqttConversation(FirmwareCommands, TariffCommands):
    """One device, as a `headend.drivers.contract.Conversation`."""

    def __init__(
        self, asking: Asking, way: MqttWay, nonce: str, answer_s: float, now: Callable[[], datetime]
    ) -> None:
        self._asking = asking
        self._way = way
        self._nonce = nonce
        self._answer_s = answer_s
        self._now = now
        self._answers_s: list[float] = []

    @property
    def answers_s(self) -> Sequence[float]:
        """Seconds from publishing to the answer."""
        return self._answers_s

    @property
    def traffic(self) -> tuple[int, int]:
        """Not counted."""
        return 0, 0

    async def read_load_curve(self, number: int, start: datetime, end: datetime) -> ReadingBatch:
        """Raises LocalProtocolError: nobody keeps these curves."""
        raise LocalProtocolError(f"{self._way}: load curve {number} comes by itself and cannot be asked for")

    async def read_registers(self, obis: Sequence[str] = ()) -> RegisterReadout:
        """The values of the device's next answer, of these codes or all.

        Raises LinkTimeout where none comes, RemoteProtocolError where it cannot be read, PeerRefused.
        """
        codes = [_code(text) for text in obis]
        told = await self._ask()
        wanted = set(codes)
        reads = [
            one._replace(quality=Quality.MEASURED)
            for one in told.registers
            if not wanted or one.obis in wanted
        ]
        there = {one.obis for one in reads}
        reason = "; ".join(told.notes) or "not in the device's answer"
        refusals = tuple(Refusal(code, _VALUE, reason) for code in codes if code not in there)
        return RegisterReadout(registers_only(reads, source=str(self._way)), refusals)

    async def read_events(self, since: datetime, until: datetime) -> ReadingBatch:
        """None: such devices keep no log."""
        return registers_only((), source=str(self._way))

    async def _ask(self) -> Readings:
        """The first message with readings; a gateway may speak of other things in between."""
        way, ask = self._way, self._way.model.ask
        if ask is None:
            raise LocalProtocolError(f"{way}: meters of model {way.model.name} cannot be asked for registers")
        payload = fill(ask.payload, way.identity).replace(ASK, self._nonce).encode()
        return await self._first(fill(ask.topic, way.identity), payload, self._readings)

    def _readings(self, answer: Answer) -> Readings | None:
        model, identity = self._way.model, self._way.identity
        others = [one.answer for one in (model.firmware, model.tariff) if one is not None]
        if answer.topic in [fill(one, identity) for one in others]:
            return None
        told = self._read(answer)
        return told if told.registers else None

    @property
    def _firmware(self) -> Firmware:
        model = self._way.model
        if model.firmware is None:
            raise LocalProtocolError(f"model {model.name} has no [firmware]: its meters take no images")
        return model.firmware

    @property
    def _tariff(self) -> MqttTariff:
        model = self._way.model
        if model.tariff is None:
            raise LocalProtocolError(f"model {model.name} has no [tariff]: its meters take no programs")
        return model.tariff

    async def _exchange(
        self, topic: str, payload: bytes, answers: str, take: Callable[[bytes], T | None]
    ) -> T:
        identity = self._way.identity
        wanted = fill(answers, identity)

        def of_topic(answer: Answer) -> T | None:
            return None if answer.retained or answer.topic != wanted else take(answer.payload)

        return await self._first(fill(topic, identity), payload, of_topic)

    async def _first(self, topic: str, payload: bytes, take: Callable[[Answer], T | None]) -> T:
        """Publish, and what ``take`` makes of the first message of which it makes something."""
        loop = asyncio.get_running_loop()
        asked = loop.time()
        try:
            async with asyncio.timeout(self._answer_s):
                await self._asking.publish(topic, payload)
                while (found := take(await self._asking.next())) is None:
                    pass
        except TimeoutError:
            raise LinkTimeout(f"{self._way}: no answer within {self._answer_s:g} s") from None
        self._answers_s.append(loop.time() - asked)
        return found

    def _read(self, answer: Answer) -> Readings:
        way, meter = self._way, self._way.target.meter
        if answer.retained:
            return Readings(meter.meter_id)
        document = documents.load(answer.payload)
        if isinstance(error := document.get("error"), dict):
            raise PeerRefused(f"{way}: the device refuses: {json.dumps(error, default=str)[:120]}")
        model = way.model.model_copy(update={"curves": ()})  # an answer is no row of a curve
        found = read_object(model, answer.topic, document)
        known = Known(meter.meter_id, meter.asset_id, model)
        return Sampler().explain(known, model, found, (self._now() - _EPOCH) // _US)


def _code(text: str) -> str:
    try:
        return str(Obis.parse(text))
    except ValueError as error:
        raise LocalProtocolError(f"{text!r} is no OBIS code: {error}") from error


if TYPE_CHECKING:  # what `features` says, the conversation can
    _CONVERSATION: type[Conversation] = MqttConversation
    _FIRMWARE: type[Upgradable] = MqttConversation
    _TARIFF: type[TariffConversation] = MqttConversation
