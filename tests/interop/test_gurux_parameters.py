"""A Gurux client configures our simulated meter, which follows: its load profile captures, and it pushes,
as it was told.

No recorded trace of a meter that was configured exists here: a peer by other hands is the best there is.
"""

import datetime as dt
import socket
from contextlib import closing
from typing import Any

import pytest
from gurux_dlms import GXByteBuffer, GXReplyData
from gurux_dlms.enums import DataType
from gurux_dlms.objects import (
    GXDLMSCaptureObject,
    GXDLMSData,
    GXDLMSProfileGeneric,
    GXDLMSPushSetup,
    GXDLMSRegister,
    GXDLMSScriptTable,
)

from concentrator_sim.meter import SimulatedMeter
from protocols.dlms.obis import Obis
from tests.interop.gurux_client import TIMEOUT_S, TITLE, Refused, talking
from tests.interop.test_gurux_client import ENERGIES, NOW, PROFILE, client_for, profile_of, rows_between, run

pytestmark = pytest.mark.interop

PUSH = "0.0.25.9.0.255"
NAME, ENERGY = (Obis.parse(one).raw for one in ("0-0:42.0.0*255", "1-0:1.8.0*255"))


def test_a_written_period_and_columns_are_captured_from_then_on() -> None:
    clock = [NOW]

    def work(meter: SimulatedMeter, port: int) -> None:
        with talking(client := client_for(meter), port) as connection:
            profile = profile_of(connection)
            assert connection.read(profile, 7) == meter.entries
            for wrong in (0, 90, 7 * 60):  # no whole minutes, no whole number of them in a day
                profile.capturePeriod = wrong
                with pytest.raises(Refused):
                    connection.exchange(client.write(profile, 4))
            profile.capturePeriod = 300
            profile.setDataType(4, DataType.UINT32)
            connection.exchange(client.write(profile, 4))
            del profile.captureObjects[3:]
            connection.exchange(client.write(profile, 3))
            found = profile_of(connection)
            assert (found.capturePeriod, len(found.captureObjects), found.entriesInUse) == (300, 3, 0)
            clock[0] += 3600
            assert connection.read(GXDLMSProfileGeneric(PROFILE), 7) == 12
            begin = dt.datetime.fromtimestamp(NOW, dt.UTC)
            rows = rows_between(connection, found, begin, begin + dt.timedelta(minutes=20))
        first = dt.datetime.fromtimestamp(NOW - NOW % 300 + 300, dt.UTC)
        stamps = [first + dt.timedelta(minutes=5) * n for n in range(4)]
        assert rows == [[one, 0, meter.consumption.at(0, int(one.timestamp()))] for one in stamps]

    run(work, clock=lambda: clock[0])


def _objects(setup: GXDLMSPushSetup) -> None:
    """Each object's name and value, and the unit of its register: what says what it is."""
    for item, attributes in (
        (GXDLMSData("0.0.42.0.0.255"), (1, 2)),
        (GXDLMSRegister(ENERGIES[0]), (1, 2, 3)),
    ):
        setup.pushObjectList += [(item, GXDLMSCaptureObject(one, 0)) for one in attributes]


@pytest.mark.parametrize("mode", ["none", "hls5"])
def test_a_push_that_was_set_up_arrives_where_it_was_to_go(mode: str) -> None:
    def work(meter: SimulatedMeter, port: int) -> None:
        client, setup = client_for(meter), GXDLMSPushSetup(PUSH)
        setup.version = 0
        _objects(setup)
        with closing(socket.create_server(("127.0.0.1", 0))) as listener, talking(client, port) as connection:
            listener.settimeout(TIMEOUT_S)
            for destination in ("10.0.0.1:4059", "localhost:4059", "nowhere"):
                setup.destination = destination
                for index in (2, 3):
                    connection.exchange(client.write(setup, index))
                with pytest.raises(Refused):  # it sends nothing beyond this machine
                    connection.exchange(setup.activate(client))
            setup.destination = f"127.0.0.1:{listener.getsockname()[1]}"
            connection.exchange(client.write(setup, 3))
            connection.exchange(setup.activate(client))
            assert _pushed(meter, listener) == [
                NAME,
                meter.name.encode(),
                ENERGY,
                meter.consumption.at(0, NOW),
                [0, 30],
            ]
            script = GXDLMSScriptTable("0.0.10.0.108.255")
            connection.exchange(client.method(script, 1, 1, DataType.UINT16))
            assert _pushed(meter, listener)[1] == meter.name.encode()

    run(work, security=mode)


def _pushed(meter: SimulatedMeter, listener: socket.socket) -> list[Any]:
    """The values of one push, as Gurux reads it."""
    with closing(listener.accept()[0]) as stream:
        data = b"".join(iter(lambda: stream.recv(4096), b""))
    told, receiver = GXReplyData(), client_for(meter)
    receiver.ciphering.systemTitle = TITLE
    receiver.settings.sourceSystemTitle = meter.system_title
    receiver.getData(GXByteBuffer(data), GXReplyData(), told)
    assert told.time is not None
    return [bytes(one) if isinstance(one, bytearray) else one for one in told.value]
