"""A Zigbee mesh behind a gateway that publishes as zigbee2mqtt does: states, availability, the mesh's map.

Topics and names are those of www.zigbee2mqtt.io, "MQTT topics and messages", with last_seen in ISO 8601 and
the friendly name of a meter being its serial number.
"""

import asyncio
import datetime as dt
import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, ClassVar, Final

from concentrator_sim.broker import Device, Heard, Outlet, to_json
from concentrator_sim.generator import moment_of, quarter_of
from concentrator_sim.publishing import Publisher, PublishingStation

BASE: Final = "zigbee2mqtt"
#: Bytes of a report of the Metering cluster with its headers.
_REPORT_BYTES: Final = 48
#: A report that is lost in the mesh is repeated so often, so many seconds later.
_TRIES: Final = 3
_AGAIN_S: Final = 5.0
_KWH: Final = -3


class ZigbeeGateway(PublishingStation):
    """See the module. States of the past are published at the start, as if the broker had kept them."""

    meter_models: ClassVar[Mapping[str, str]] = {"none": "zigbee2mqtt"}

    async def live(self, url: str) -> None:
        """See `PublishingStation`."""
        code = self.station.code
        self._told_past = False
        self._online: dict[str, bool] = {}
        await Device(
            code,
            self._speak,
            self.house.faults_of(code),
            self.house.now,
            will=(f"{BASE}/bridge/state", '{"state":"offline"}'),
            topics=(f"{BASE}/+/get", f"{BASE}/bridge/request/networkmap"),
            hear=self._hear,
        ).live(url)

    async def _speak(self, outlet: Outlet) -> None:
        await outlet.publish(f"{BASE}/bridge/state", '{"state":"online"}', retain=True)
        self._online.clear()
        first, newest = self.first_quarter, quarter_of(self.house.now())
        for one in self.publishers:
            await self._availability(outlet, one, online=one.is_reached(self.house.now()))
            if not (one.leaf.dead or self._told_past):
                for quarter in range(first, newest + 1):
                    await self._state(outlet, one, moment_of(quarter) + 1)
        self._told_past = True
        async for _ in self.boundaries(self.station.code):
            async with asyncio.TaskGroup() as tasks:
                for one in self.publishers:
                    tasks.create_task(self._report(outlet, one))

    async def _report(self, outlet: Outlet, one: Publisher) -> None:
        for _ in range(_TRIES):
            if one.is_reached(self.house.now(), _REPORT_BYTES):
                await self._availability(outlet, one, online=True)
                await self._state(outlet, one, self.house.now())
                return
            await asyncio.sleep(_AGAIN_S)
        await self._availability(outlet, one, online=False)

    async def _availability(self, outlet: Outlet, one: Publisher, *, online: bool) -> None:
        if self._online.get(one.serial) is not online:
            self._online[one.serial] = online
            state = json.dumps({"state": "online" if online else "offline"})
            await outlet.publish(f"{BASE}/{one.serial}/availability", state, retain=True)

    async def _state(self, outlet: Outlet, one: Publisher, now: int) -> None:
        await outlet.publish(f"{BASE}/{one.serial}", to_json(state(one, now)))

    async def _hear(self, outlet: Outlet, heard: Heard) -> None:
        if heard.topic.endswith("/networkmap"):
            answer = {"data": {"type": "raw", "value": self.mesh()}, "status": "ok"}
            await outlet.publish(f"{BASE}/bridge/response/networkmap", json.dumps(answer))
            return
        name = heard.topic.split("/")[1]
        for one in self.publishers:
            if one.serial == name and one.is_reached(self.house.now(), _REPORT_BYTES):
                await self._state(outlet, one, self.house.now())

    def mesh(self) -> dict[str, Any]:
        """Nodes, and the links from each to whom it hangs on."""
        names = {None: self.station.code} | {one.leaf.place: one.serial for one in self.publishers}
        routers = {one.leaf.relay for one in self.publishers}
        nodes: Iterable[dict[str, Any]] = (
            {
                "friendlyName": one.serial,
                "type": "Router" if one.leaf.place in routers else "EndDevice",
            }
            for one in self.publishers
        )
        return {
            "nodes": [{"friendlyName": self.station.code, "type": "Coordinator"}, *nodes],
            "links": [
                {
                    "source": {"friendlyName": one.serial},
                    "target": {"friendlyName": names[one.leaf.relay]},
                    "linkquality": link_quality(one),
                    "depth": one.leaf.hops,
                }
                for one in self.publishers
            ],
        }


def link_quality(one: Publisher) -> int:
    """0 to 255, as Zigbee has it."""
    return one.leaf.quality * 255 // 100


def state(one: Publisher, now: int) -> dict[str, Any]:
    """The state that the gateway remembers of a meter at ``now`` (Unix seconds)."""
    shows = one.shows(now)
    seen = dt.datetime.fromtimestamp(now, dt.UTC)
    return {
        "energy": Decimal(shows.energy(0)).scaleb(_KWH),
        "produced_energy": Decimal(shows.energy(1)).scaleb(_KWH),
        "power": shows.power,
        "voltage": shows.voltage,
        "current": shows.current,
        "ac_frequency": shows.frequency,
        "linkquality": link_quality(one),
        "last_seen": seen.isoformat().replace("+00:00", "Z"),
    }
