"""Stations as they are served: what each kind is made of, by a table."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from concentrator_sim.dlms_station import DlmsStation
from concentrator_sim.line_station import LineStation
from concentrator_sim.modbus_station import ModbusStation
from concentrator_sim.mqtt_concentrator import MqttConcentrator
from concentrator_sim.plan import StationKind
from concentrator_sim.served import House, Served
from concentrator_sim.tree import Station
from concentrator_sim.wifi_meters import WifiMeters
from concentrator_sim.zigbee_gateway import ZigbeeGateway


class Unserved:
    """A station of a kind that this simulator draws and does not serve."""

    address = ""
    model = ""

    def __init__(self, station: Station, house: House) -> None:
        self.station = station

    async def start(self, port: int) -> None:
        """Nobody listens."""

    async def run(self) -> None:
        """Nothing is done."""

    async def stop(self) -> None:
        """Nothing is open."""

    def meter_rows(self) -> Iterator[dict[str, str]]:
        """No meter can be reached, so none is told."""
        return iter(())


#: How the stations of a kind are made. A new kind adds a line.
KINDS: Final[Mapping[StationKind, Callable[[Station, House], Served]]] = MappingProxyType(
    {
        StationKind.PASS_THROUGH: DlmsStation,
        StationKind.STORE_AND_FORWARD: DlmsStation,
        StationKind.MQTT: MqttConcentrator,
        StationKind.ZIGBEE: ZigbeeGateway,
        StationKind.WIFI: WifiMeters,
        StationKind.DLT645_TCP: LineStation,
        StationKind.IEC62056_TCP: LineStation,
        StationKind.P1_TCP: LineStation,
        StationKind.MODBUS_TCP: ModbusStation,
        StationKind.MODBUS_RTU_TCP: ModbusStation,
        StationKind.MODBUS_RTU: ModbusStation,
    }
)


def serve(station: Station, house: House) -> Served:
    """The station, not yet listening."""
    return KINDS.get(station.plan.kind, Unserved)(station, house)
