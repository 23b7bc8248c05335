"""A Gurux client configures our simulated meter, which follows: its load profile captures as it was told.

No recorded trace of a meter that was configured exists here: a peer by other hands is the best there is.
"""

import datetime as dt

import pytest
from gurux_dlms.enums import DataType
from gurux_dlms.objects import GXDLMSProfileGeneric

from concentrator_sim.meter import SimulatedMeter
from tests.interop.gurux_client import Refused, talking
from tests.interop.test_gurux_client import NOW, PROFILE, client_for, profile_of, rows_between, run

pytestmark = pytest.mark.interop


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
