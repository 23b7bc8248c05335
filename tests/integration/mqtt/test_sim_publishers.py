"""Simulated stations at a real mosquitto: what they publish, on what they answer, and when they vanish."""

import asyncio
import json
from collections import defaultdict
from contextlib import asynccontextmanager

import aiomqtt
import pytest

from concentrator_sim.broker import Device
from concentrator_sim.faults import Fault, FaultKind, Faults
from concentrator_sim.field import Field
from concentrator_sim.generator import Consumption, moment_of, quarter_of
from concentrator_sim.scenario import make_scenario
from protocols.mqtt import batches, documents, tasmota, zigbee2mqtt
from schemas.batch import Batch, BatchAck, BatchAnnounce, BatchLost, BatchRequest

DEADLINE_S = 40


class Ear:
    """Hears everything at the broker, by topic, in order."""

    def __init__(self, client):
        self.client = client
        self.heard = defaultdict(list)
        self._more = asyncio.Condition()

    async def listen(self):
        async for message in self.client.messages:
            async with self._more:
                self.heard[str(message.topic)].append(bytes(message.payload))
                self._more.notify_all()

    async def until(self, condition):
        async with asyncio.timeout(DEADLINE_S), self._more:
            await self._more.wait_for(condition)

    async def say(self, topic, message):
        await self.client.publish(topic, batches.encode(message), qos=1)

    def batches(self, code="DC-0001"):
        return [batches.decode(payload) for payload in self.heard[f"headend/batch/{code}"]]


@asynccontextmanager
async def ear(port):
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe("#", qos=1)
        one = Ear(client)
        listening = asyncio.create_task(one.listen())
        try:
            yield one
        finally:
            listening.cancel()


class Clock:
    """Turned by hand."""

    now = 1_800_000_123

    def __call__(self):
        return self.now


def field(broker, clock, *faults, **plan):
    told = {"history_days": 1, **plan}
    table = {"meters": 0, "mqtt_url": broker.url, "stations": [told], "faults": list(faults)}
    return Field(make_scenario(table), clock=clock)


def of(messages, kind):
    return [one for one in messages if isinstance(one, kind)]


@pytest.mark.parametrize("form", ["json", "cbor"])
async def test_a_concentrator_delivers_and_keeps_until_acknowledged(mosquitto, form):
    clock = Clock()
    plan = {"kind": "mqtt", "meters": 6, "spread_m": 100, "batch_quarters": 24, "form": form}
    async with ear(mosquitto.port) as one, field(mosquitto, clock, **plan) as sim:
        outbox = sim.stations[0].outbox
        await one.until(lambda: len(of(one.batches(), Batch)) >= 4)
        announced, *told = one.batches()
        assert isinstance(announced, BatchAnnounce)
        assert len(announced.meters) == 6
        stamps = [stamp for batch in told for stamp in batch.series[0].stamps]
        newest = quarter_of(clock.now)
        assert stamps == [moment_of(quarter) for quarter in range(newest - 95, newest + 1)]
        last = told[3].series[5]
        assert last.values[0][-1] == Consumption(1, 1_000_006).at(0, moment_of(newest))
        run = told[0].run
        await one.say(
            "headend/request/DC-0001",
            BatchRequest(format="headend.batch-request.1", concentrator="DC-0001", run=run, first=1, last=2),
        )
        await one.until(lambda: len(of(one.batches(), Batch)) >= 6)
        assert of(one.batches(), Batch)[4:] == told[1:3]
        await one.say(
            "headend/ack/DC-0001",
            BatchAck(format="headend.batch-ack.1", concentrator="DC-0001", run=run, first=0, last=2),
        )
        await one.say(
            "headend/request/DC-0001",
            BatchRequest(format="headend.batch-request.1", concentrator="DC-0001", run=run, first=0, last=2),
        )
        await one.until(lambda: of(one.batches(), BatchLost))
        assert len(outbox) == 1


async def test_a_new_quarter_is_a_new_batch_and_an_old_one_is_sent_again(mosquitto):
    clock = Clock()
    clock.now = moment_of(quarter_of(clock.now) + 1) - 1
    plan = {"kind": "mqtt", "meters": 2, "spread_m": 50}
    async with ear(mosquitto.port) as one, field(mosquitto, clock, **plan):
        await one.until(lambda: of(one.batches(), Batch))
        clock.now += 70
        await one.until(lambda: len(of(one.batches(), Batch)) >= 3)
        numbers = sorted(batch.sequence for batch in of(one.batches(), Batch))
        assert numbers[:3] == [0, 0, 1]


async def test_a_lost_batch_is_a_gap_and_a_doubled_one_comes_twice(mosquitto):
    plan = {"kind": "mqtt", "meters": 2, "spread_m": 50, "batch_quarters": 12}
    twice = {"kind": "duplicate", "targets": "DC-0001"}
    lost = {"kind": "loss", "targets": "DC-0001", "chance": 0.5}
    async with ear(mosquitto.port) as one, field(mosquitto, Clock(), twice, **plan):
        await one.until(lambda: len(one.batches()) >= 18)
        numbers = [batch.sequence for batch in of(one.batches(), Batch)]
        assert numbers == [number for number in range(8) for _ in (1, 2)]
    async with ear(mosquitto.port) as one, field(mosquitto, Clock(), lost, **plan) as sim:
        await one.until(lambda: len(one.batches()) >= 2)
        box = sim.stations[0].outbox
        assert len(box) == 8
        assert len(of(one.batches(), Batch)) < 8


async def test_a_full_buffer_is_declared_lost(mosquitto):
    plan = {"kind": "mqtt", "meters": 2, "spread_m": 50, "batch_quarters": 12, "buffer": 3}
    async with ear(mosquitto.port) as one, field(mosquitto, Clock(), **plan):
        await one.until(lambda: len(of(one.batches(), BatchLost)) >= 5)
        assert [batch.sequence for batch in of(one.batches(), Batch)] == [5, 6, 7]
        assert [lost.first for lost in of(one.batches(), BatchLost)] == [0, 1, 2, 3, 4]
    full = {"kind": "full_buffer", "targets": "DC-0001"}
    async with ear(mosquitto.port) as one, field(mosquitto, Clock(), full, **plan):
        await one.until(lambda: len(of(one.batches(), BatchLost)) >= 6)
        assert of(one.batches(), Batch) == []
        assert [(lost.first, lost.last) for lost in of(one.batches(), BatchLost)][-1] == (5, 7)


async def test_a_zigbee_mesh(mosquitto):
    clock = Clock()
    async with (
        ear(mosquitto.port) as one,
        field(mosquitto, clock, kind="zigbee", meters=3, spread_m=20) as sim,
    ):
        names = [publisher.serial for publisher in sim.stations[0].publishers]
        await one.until(lambda: all(len(one.heard[f"zigbee2mqtt/{name}"]) >= 96 for name in names))
        assert one.heard["zigbee2mqtt/bridge/state"] == [b'{"state":"online"}']
        for name in names:
            (availability,) = one.heard[f"zigbee2mqtt/{name}/availability"]
            assert json.loads(availability) == {"state": "online"}
        times = [
            zigbee2mqtt.decode("zigbee2mqtt/x", documents.load(payload)).time
            for payload in one.heard[f"zigbee2mqtt/{names[0]}"]
        ]
        assert len(set(times)) == 96
        assert all(time.minute % 15 == 0 and time.second < 30 for time in times)
        await one.client.publish(f"zigbee2mqtt/{names[1]}/get", '{"energy": ""}', qos=1)
        await one.until(lambda: len(one.heard[f"zigbee2mqtt/{names[1]}"]) == 97)
        await one.client.publish("zigbee2mqtt/bridge/request/networkmap", '{"type": "raw"}', qos=1)
        await one.until(lambda: one.heard["zigbee2mqtt/bridge/response/networkmap"])
        (answer,) = one.heard["zigbee2mqtt/bridge/response/networkmap"]
        value = json.loads(answer)["data"]["value"]
        assert [len(value["nodes"]), len(value["links"])] == [4, 3]


async def test_a_meter_that_vanishes_leaves_its_will(mosquitto):
    clock = Clock()
    restart = {"kind": "reboot", "targets": "SIM000011000001", "after_s": 50, "for_s": 50}
    plan = {"kind": "wifi", "meters": 2, "history_days": 0}
    async with ear(mosquitto.port) as one, field(mosquitto, clock, restart, **plan):
        wills = one.heard["tele/SIM000011000001/LWT"], one.heard["SIM000011000002/online"]
        await one.until(lambda: all(wills))
        assert [list(will) for will in wills] == [[b"Online"], [b"true"]]
        clock.now += 60
        await one.until(lambda: b"Offline" in wills[0])
        clock.now += 60
        await one.until(lambda: wills[0][-1] == b"Online")
        assert wills[0] == [b"Online", b"Offline", b"Online"]
        assert wills[1] == [b"true"]


async def test_a_concentrator_that_vanishes_leaves_its_will(mosquitto):
    clock = Clock()
    restart = {"kind": "reboot", "targets": "DC-0001", "after_s": 50, "for_s": 50}
    plan = {"kind": "mqtt", "meters": 1, "spread_m": 50, "history_days": 0}
    async with ear(mosquitto.port) as one, field(mosquitto, clock, restart, **plan):
        will = one.heard["headend/presence/DC-0001"]
        await one.until(lambda: will == [b"online"])
        clock.now += 60
        await one.until(lambda: will == [b"online", b"offline"])


async def test_a_device_that_is_ended_while_its_power_fails_ends(mosquitto):
    clock = Clock()
    restart = Fault(kind=FaultKind.REBOOT, after_s=50, for_s=50)

    async def speak(outlet):
        clock.now += 60
        living.cancel()
        raise aiomqtt.MqttError("cut off")

    faults = Faults("SIM1", [restart], seed=1, started=clock.now)
    living = asyncio.create_task(Device("SIM1", speak, faults, clock).live(mosquitto.url))
    await asyncio.wait([living], timeout=DEADLINE_S)
    assert living.cancelled()


async def test_a_broker_that_is_away_is_found_again(mosquitto):
    topic = "stat/SIM000011000001/STATUS10"
    async with field(mosquitto, Clock(), kind="wifi", meters=1, history_days=0):
        async with ear(mosquitto.port) as one:
            await one.until(lambda: one.heard["tele/SIM000011000001/LWT"])
        mosquitto.stop()
        mosquitto.start()
        async with ear(mosquitto.port) as one, asyncio.timeout(DEADLINE_S):
            answers = one.heard[topic]
            while not answers:  # a question is heard when the meter is there again
                await one.client.publish("cmnd/SIM000011000001/STATUS", "10", qos=1)
                await asyncio.sleep(0.2)
            assert tasmota.decode(topic, documents.load(answers[0])).readings
