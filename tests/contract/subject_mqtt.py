"""MQTT devices under the contract suite: a broker in memory, and devices that answer as captured ones do."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path

from headend.drivers.mqtt.driver import Answer, MqttDriver
from tests.contract.subjects import Subject, meter

CAPTURES = {
    entry["id"]: entry["payload"]
    for entry in json.loads(
        (Path(__file__).parents[1] / "vectors/mqtt/mqtt_payloads.json").read_text("utf-8")
    )["entries"]
}
Device = Callable[[str, bytes], tuple[str, bytes]]


class MemoryBroker:
    """An `Exchange`: what is published goes to the device of the topic, its answer to who subscribed."""

    def __init__(self, devices: dict[str, Device]) -> None:
        self._devices = devices
        self._askings: list[MemoryAsking] = []

    @property
    def open(self) -> int:
        return len(self._askings)

    @asynccontextmanager
    async def asking(self, *answers: str) -> AsyncIterator["MemoryAsking"]:
        asking = MemoryAsking(self, answers)
        for topic in answers:
            asking.queue.put_nowait(Answer(topic, b'{"retained": "is no answer"}', True))
        self._askings.append(asking)
        try:
            yield asking
        finally:
            self._askings.remove(asking)

    def deliver(self, topic: str, payload: bytes) -> None:
        device = self._devices.get(topic)
        if device is None:
            return
        answer, said = device(topic, payload)
        for asking in self._askings:
            if answer in asking.answers:
                if not answer.endswith("/rpc"):  # other topics are not for answers alone
                    asking.queue.put_nowait(Answer(answer, b'{"linkquality": 3}', False))
                asking.queue.put_nowait(Answer(answer, said, False))


class MemoryAsking:
    def __init__(self, broker: MemoryBroker, answers: tuple[str, ...]) -> None:
        self._broker = broker
        self.answers = answers
        self.queue: asyncio.Queue[Answer] = asyncio.Queue()

    async def publish(self, topic: str, payload: bytes) -> None:
        self._broker.deliver(topic, payload)

    async def next(self) -> Answer:
        return await self.queue.get()


def tasmota(topic: str, payload: bytes) -> tuple[str, bytes]:
    assert payload == b"10"
    name = topic.split("/")[1]
    return f"stat/{name}/STATUS10", json.dumps({"StatusSNS": CAPTURES["tasmota_sensor_sdm"]}).encode()


def zigbee2mqtt(topic: str, payload: bytes) -> tuple[str, bytes]:
    assert "energy" in json.loads(payload)
    return topic.removesuffix("/get"), json.dumps(CAPTURES["z2m_ts011f_a"]).encode()


def shelly(topic: str, payload: bytes) -> tuple[str, bytes]:
    # the frame is of Shelly's documentation (RPC over MQTT); the components are captured ones
    asked = json.loads(payload)
    result = {
        "em:0": CAPTURES["shelly_pro3em_status_em0"],
        "emdata:0": CAPTURES["shelly_pro3em_status_emdata0"],
        "sys": {"unixtime": 1757060280},
    }
    answer = {"id": asked["id"], "src": topic.split("/")[0], "dst": asked["src"], "result": result}
    return f"{asked['src']}/rpc", json.dumps(answer).encode()


def rubbish(device: Device) -> Device:
    return lambda topic, payload: (device(topic, payload)[0], b"HTTP/1.1 400 Bad Request\r\n\r\n")


@asynccontextmanager
async def subject(
    model: str, topic: str, device: Device, values: dict[str, Decimal]
) -> AsyncIterator[Subject]:
    broker = MemoryBroker({topic.format("d"): device, topic.format("bad"): rubbish(device)})
    driver = MqttDriver(broker, now=lambda: datetime(2026, 3, 2, 12, tzinfo=UTC))
    yield Subject(
        driver,
        meter(1, model, "mqtt:d"),
        values,
        absent="1-0:99.99.99*255",
        silent=meter(2, model, "mqtt:silent"),
        garbage=meter(4, model, "mqtt:bad"),
        impossible=[
            meter(5, model, "tcp://127.0.0.1:4059"),
            meter(6, model, None),
            meter(7, "no-such-model", "mqtt:d"),
            meter(8, "zigbee-zcl", "mqtt:d"),  # cannot be asked
        ],
        links=lambda: broker.open,
        push_models=["zigbee-zcl", "headend-batch-meter", "dlms-over-mqtt"],
    )


SUBJECTS = {
    "mqtt tasmota": partial(
        subject, "tasmota-meter", "cmnd/{}/STATUS", tasmota,
        {"1-0:1.8.0*255": Decimal(12580), "1-9:1.8.0*255": Decimal(17), "1-0:32.7.0*255": Decimal("234.31")},
    ),
    "mqtt zigbee2mqtt": partial(
        subject, "zigbee2mqtt", "zigbee2mqtt/{}/get", zigbee2mqtt,
        {"1-0:1.8.0*255": Decimal(433370), "1-0:16.7.0*255": Decimal(63), "1-0:32.7.0*255": Decimal(227)},
    ),
    "mqtt shelly": partial(
        subject, "shelly-gen2", "{}/rpc", shelly,
        {"1-0:1.8.0*255": Decimal("5415414.19"), "1-0:21.8.0*255": Decimal("3105576.42"),
         "1-0:72.7.0*255": Decimal("230.2")},
    ),
}  # fmt: skip
