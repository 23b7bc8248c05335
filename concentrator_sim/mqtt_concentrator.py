"""A concentrator that sends its meters' load curves over MQTT, in batches of our own schema, and hands them
what is said to them: chunks of a new image, tariff programs."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from concentrator_sim.broker import Device, Heard, Outlet
from concentrator_sim.image_talk import ImageTalk
from concentrator_sim.meter import serial_of
from concentrator_sim.outbox import Outbox
from concentrator_sim.plan import Form
from concentrator_sim.publishing import Publisher, PublishingStation
from concentrator_sim.served import House
from concentrator_sim.tariff_talk import TariffTalk
from concentrator_sim.tree import Station
from protocols.errors import RemoteProtocolError
from protocols.mqtt import batches
from schemas.batch import (
    AnnouncedMeter,
    BatchAck,
    BatchAnnounce,
    BatchLost,
    BatchMessage,
    BatchRequest,
)

MODEL: Final = "headend-batch-meter"
#: Bytes of a meter's rows on the power line, as the route is asked for them.
_ROW_BYTES: Final = 32
#: A batch that is not acknowledged after so many seconds is sent again.
AGAIN_S: Final = 60
_LOOK_S: Final = 5.0


class MqttConcentrator(PublishingStation):
    """See the module. A new process is a new run: its count began anew."""

    model = "headend-concentrator"
    meter_models: ClassVar[Mapping[str, str]] = {"none": MODEL}

    def __init__(self, station: Station, house: House) -> None:
        super().__init__(station, house)
        plan = station.plan
        self._faults = house.faults_of(station.code)
        self._unsent: list[BatchMessage] = []
        self.outbox = Outbox(
            station.code,
            f"r{house.now()}",
            [one.meter for one in self.publishers],
            first=self.first_quarter,
            at_most=plan.batch_quarters,
            capacity=plan.buffer,
        )
        self._topic = f"headend/batch/{station.code}"
        #: topic of a request -> the meter, what it answers, topic of the answer
        self._talks: dict[str, tuple[Publisher, ImageTalk | TariffTalk, str]] = {}
        for one in self.publishers:
            for what, talk in (
                ("image", ImageTalk(one.meter)),
                ("tariff", TariffTalk(one.meter, one.faults.clock)),
            ):
                self._talks[f"headend/{what}/{one.serial}"] = one, talk, f"headend/{what}-told/{one.serial}"

    @property
    def address(self) -> str:
        """See `Served`: its name at the broker."""
        return f"mqtt:{self.station.code}" if self.house.scenario.mqtt_url else ""

    async def live(self, url: str) -> None:
        """See `PublishingStation`."""
        code = self.station.code
        device = Device(
            code,
            self._speak,
            self._faults,
            self.house.now,
            will=(f"headend/presence/{code}", "offline"),
            topics=(f"headend/request/{code}", f"headend/ack/{code}", *self._talks),
            hear=self._hear,
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._collect())
            tasks.create_task(device.live(url))

    async def _collect(self) -> None:
        """Fetch what the meters have, connected or not; sending finds it in the outbox."""
        self.fetch()
        async for _ in self.boundaries(self.station.code):
            self.fetch()

    def fetch(self) -> None:
        """One round over the power line."""
        now, reached = self.house.now(), []
        for one in self.publishers:
            if one.is_reached(now, _ROW_BYTES):
                reached.append(one.serial)
            else:
                self.outbox.missed(one.serial)
        self._unsent += self.outbox.round(reached, now)
        if self._faults.is_full(now):
            self._forget_batches()
            self._unsent += self.outbox.drop_all()

    def _forget_batches(self) -> None:
        self._unsent = [message for message in self._unsent if isinstance(message, BatchLost)]

    async def _speak(self, outlet: Outlet) -> None:
        """Announce, send all that is not acknowledged, then what comes."""
        await outlet.publish(f"headend/presence/{self.station.code}", "online", retain=True)
        await self._send(outlet, [self._announcement()])
        self._forget_batches()  # they are in the outbox too
        await self._send(outlet, self.outbox.waiting(self.house.now()))
        while True:
            unsent, self._unsent = self._unsent, []
            await self._send(outlet, unsent)
            await self._send(outlet, self.outbox.waiting(self.house.now(), AGAIN_S))
            await asyncio.sleep(_LOOK_S)

    async def _hear(self, outlet: Outlet, heard: Heard) -> None:
        if heard.topic in self._talks:
            await self._pass_on(outlet, heard)
            return
        try:
            message = batches.decode(heard.payload)
        except RemoteProtocolError:
            return  # nobody to tell
        if isinstance(message, BatchAck):
            self.outbox.acknowledged(message)
        elif isinstance(message, BatchRequest):
            await self._send(outlet, self.outbox.asked(message))

    async def _pass_on(self, outlet: Outlet, heard: Heard) -> None:
        """A meter is asked something; it answers if the line carries it."""
        (one, talk, topic), now = self._talks[heard.topic], self.house.now()
        if not heard.retained and one.is_reached(now, len(heard.payload)):
            answer = talk.answer(heard.payload, now)
            if answer is not None:
                await outlet.publish(topic, answer)

    async def _send(self, outlet: Outlet, messages: Sequence[BatchMessage]) -> None:
        is_compact = self.station.plan.form is Form.CBOR
        for message in messages:
            payload = batches.encode_compact(message) if is_compact else batches.encode(message)
            await outlet.publish(self._topic, payload)

    def _announcement(self) -> BatchAnnounce:
        station, now = self.station, self.house.now()
        serials = [one.serial for one in self.publishers]
        return BatchAnnounce(
            format="headend.batch-announce.1",
            concentrator=station.code,
            sent=now,
            meters=tuple(
                AnnouncedMeter(
                    meter=serial_of(station.seed, leaf.number),
                    model=MODEL,
                    address=f"mqtt:{serial_of(station.seed, leaf.number)}",
                    parent=None if leaf.relay is None else serials[leaf.relay],
                    link=station.plan.link_kind,
                    hops=leaf.hops,
                    quality=leaf.quality,
                )
                for leaf in station.leaves
                if not leaf.dead
            ),
        )
