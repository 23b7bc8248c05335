"""WiFi meters, each a client of the broker with a last will of its own: Tasmota, and Shelly of the second
generation. They come over their owners' access points, so no station of ours stands above them.

Forms: tasmota.github.io/docs (MQTT, Commands: SetOption52 gives times their offset) and
shelly-api-docs.shelly.cloud (gen2: Mqtt, Notifications).
"""

import asyncio
import datetime as dt
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar, Final, Protocol

from concentrator_sim.broker import Device, Heard, Outlet, to_json
from concentrator_sim.generator import moment_of, quarter_of
from concentrator_sim.publishing import Publisher, PublishingStation

_KWH: Final = -3
_FRAME_BYTES: Final = 400


class Firmware(Protocol):
    """What a make of WiFi meter publishes, and where."""

    def will(self, name: str) -> tuple[str, str]:
        """Topic and payload of its last will."""

    def topics(self, name: str) -> tuple[str, ...]:
        """What it listens to."""

    def online(self, name: str) -> tuple[str, str]:
        """What it says when it is there."""

    def reading(self, one: Publisher, now: int) -> tuple[str, str]:
        """Topic and payload of its values at ``now`` (Unix seconds)."""

    def answer(self, one: Publisher, heard: Heard, now: int) -> tuple[str, str] | None:
        """To a question, None where it is none."""


class Tasmota:
    """Energy in kWh below ``tele`` and ``stat``."""

    def will(self, name: str) -> tuple[str, str]:
        """See `Firmware`."""
        return f"tele/{name}/LWT", "Offline"

    def topics(self, name: str) -> tuple[str, ...]:
        """See `Firmware`."""
        return (f"cmnd/{name}/STATUS",)

    def online(self, name: str) -> tuple[str, str]:
        """See `Firmware`."""
        return f"tele/{name}/LWT", "Online"

    def reading(self, one: Publisher, now: int) -> tuple[str, str]:
        """See `Firmware`."""
        return f"tele/{one.serial}/SENSOR", to_json(_sensor(one, now))

    def answer(self, one: Publisher, heard: Heard, now: int) -> tuple[str, str] | None:
        """See `Firmware`."""
        if heard.payload.strip() not in (b"8", b"10"):
            return None
        word = heard.payload.strip().decode()
        return f"stat/{one.serial}/STATUS{word}", to_json({"StatusSNS": _sensor(one, now)})


def _sensor(one: Publisher, now: int) -> dict[str, Any]:
    shows = one.shows(now)
    return {
        "Time": dt.datetime.fromtimestamp(one.faults.clock(now), dt.UTC).isoformat(),
        "ENERGY": {
            "TotalStartTime": "2025-01-01T00:00:00",
            "Total": Decimal(shows.energy(0)).scaleb(_KWH),
            "ExportActive": Decimal(shows.energy(1)).scaleb(_KWH),
            "Power": shows.power,
            "Factor": Decimal("0.98"),
            "Voltage": shows.voltage,
            "Current": shows.current,
        },
    }


class Shelly:
    """Components in notifications, energy in Wh."""

    def will(self, name: str) -> tuple[str, str]:
        """See `Firmware`."""
        return f"{name}/online", "false"

    def topics(self, name: str) -> tuple[str, ...]:
        """See `Firmware`."""
        return (f"{name}/rpc",)

    def online(self, name: str) -> tuple[str, str]:
        """See `Firmware`."""
        return f"{name}/online", "true"

    def reading(self, one: Publisher, now: int) -> tuple[str, str]:
        """See `Firmware`."""
        told = {"ts": Decimal(one.faults.clock(now)), "switch:0": _switch(one, now)}
        name = one.serial
        message = {"src": name, "dst": f"{name}/events", "method": "NotifyStatus", "params": told}
        return f"{name}/events/rpc", to_json(message)

    def answer(self, one: Publisher, heard: Heard, now: int) -> tuple[str, str] | None:
        """See `Firmware`."""
        try:
            asked = json.loads(heard.payload)
        except ValueError:
            return None
        if not isinstance(asked, dict) or asked.get("method") != "Shelly.GetStatus":
            return None
        source = str(asked.get("src", ""))
        told = {"switch:0": _switch(one, now), "sys": {"unixtime": one.faults.clock(now)}}
        message = {"id": asked.get("id"), "src": one.serial, "dst": source, "result": told}
        return f"{source}/rpc", to_json(message)


def _switch(one: Publisher, now: int) -> dict[str, Any]:
    shows = one.shows(now)
    return {
        "id": 0,
        "output": True,
        "apower": Decimal(shows.power),
        "voltage": shows.voltage,
        "current": shows.current,
        "freq": shows.frequency,
        "aenergy": {"total": Decimal(f"{shows.energy(0)}.000"), "minute_ts": now - now % 60},
        "ret_aenergy": {"total": Decimal(f"{shows.energy(1)}.000"), "minute_ts": now - now % 60},
    }


FIRMWARE: Final[dict[str, Firmware]] = {"tasmota": Tasmota(), "shelly": Shelly()}


class WifiMeters(PublishingStation):
    """See the module. Values of the past are published at the start, as if the broker had kept them."""

    meter_models: ClassVar[Mapping[str, str]] = {"tasmota": "tasmota", "shelly": "shelly-gen2"}

    async def live(self, url: str) -> None:
        """See `PublishingStation`."""
        async with asyncio.TaskGroup() as tasks:
            for one in self.publishers:
                tasks.create_task(_WifiMeter(self, one).live(url))


class _WifiMeter:
    def __init__(self, station: PublishingStation, one: Publisher) -> None:
        self._station = station
        self._one = one
        self._firmware = FIRMWARE[one.leaf.model]
        self._told_past = False

    async def live(self, url: str) -> None:
        one, firmware = self._one, self._firmware
        if one.leaf.dead:
            return
        await Device(
            one.serial,
            self._speak,
            one.faults,
            self._now,
            will=firmware.will(one.serial),
            topics=firmware.topics(one.serial),
            hear=self._hear,
        ).live(url)

    def _now(self) -> int:
        return self._station.house.now()

    async def _speak(self, outlet: Outlet) -> None:
        one = self._one
        await outlet.publish(*self._firmware.online(one.serial), retain=True)
        if not self._told_past:
            for quarter in range(self._station.first_quarter, quarter_of(self._now()) + 1):
                await outlet.publish(*self._firmware.reading(one, moment_of(quarter) + 1))
            self._told_past = True
        async for _ in self._station.boundaries(one.serial):
            # TCP repeats what the air loses: a meter that is not reached is one whose access point is away
            if one.is_reached(self._now(), _FRAME_BYTES):
                await outlet.publish(*self._firmware.reading(one, self._now()))

    async def _hear(self, outlet: Outlet, heard: Heard) -> None:
        answer = self._firmware.answer(self._one, heard, self._now())
        if answer is not None:
            await outlet.publish(*answer)
