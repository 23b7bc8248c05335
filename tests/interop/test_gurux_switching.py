"""Breaker and limiter against Gurux: its client switches our simulated meter, we read a meter of its code.

No recorded trace of a meter with these classes was at hand. The release's server invokes no method of its
Disconnect Control, so that sending to it is not tried here.
"""

import datetime as dt
from decimal import Decimal

import pytest
from gurux_dlms import GXDateTime
from gurux_dlms.enums import DataType, Unit
from gurux_dlms.objects import (
    GXDLMSDisconnectControl,
    GXDLMSLimiter,
    GXDLMSProfileGeneric,
    GXDLMSRegister,
)
from gurux_dlms.objects.enums import ControlMode, ControlState

from concentrator_sim.breaker import Breaker
from concentrator_sim.generator import Consumption
from concentrator_sim.limiter import Limiter
from concentrator_sim.meter import SimulatedMeter
from headend.drivers.commands.switch import Control, Remote
from headend.drivers.dlms.commands import DlmsCommands
from protocols.dlms.cosem import disconnect_control as dc
from schemas.model import Limit, Switch
from tests.interop import gurux_server as gurux
from tests.interop.gurux_client import Refused, talking
from tests.interop.gurux_server import GuruxMeter, serving
from tests.interop.test_gurux_client import NOW, client_for, run
from tests.interop.test_gurux_server import model, plan_for, session_of

pytestmark = pytest.mark.interop

BREAKER, LIMITER, POWER = "0.0.96.3.10.255", "0.0.17.0.0.255", "1.0.1.7.0.255"


@pytest.mark.parametrize("mode", ["none", "hls5"])
def test_a_gurux_client_switches_our_meter(mode: str) -> None:
    def work(meter: SimulatedMeter, port: int) -> None:
        client = client_for(meter)
        breaker = GXDLMSDisconnectControl(BREAKER)
        with talking(client, port) as connection:
            assert [connection.read(breaker, index) for index in (2, 3, 4)] == [True, 1, 2]
            connection.exchange(breaker.remoteDisconnect(client))
            assert [connection.read(breaker, index) for index in (2, 3)] == [False, 0]
            with pytest.raises(Refused):  # nothing leads from disconnected to disconnected
                connection.exchange(breaker.remoteDisconnect(client))
            connection.exchange(breaker.remoteReconnect(client))
        assert meter.part(Breaker).moves == 2
        assert meter.part(Breaker).output

    run(work, security=mode)


def test_a_gurux_client_limits_our_meter() -> None:
    def work(meter: SimulatedMeter, port: int) -> None:
        client = client_for(meter)
        limiter = GXDLMSLimiter(LIMITER)
        with talking(client, port) as connection:
            for index in range(3, 12):
                connection.read(limiter, index)
            assert (limiter.thresholdNormal, limiter.minOverThresholdDuration) == (10_000, 60)
            assert limiter.emergencyProfileGroupIDs == [1]
            assert limiter.actionOverThreshold.scriptSelector == 1
            limiter.thresholdNormal = 3000
            limiter.setDataType(4, DataType.UINT32)
            connection.exchange(client.write(limiter, 4))
            limiter.emergencyProfile.id = 1
            limiter.emergencyProfile.activationTime = GXDateTime(dt.datetime(2026, 3, 12, 11, tzinfo=dt.UTC))
            limiter.emergencyProfile.duration = 7200
            connection.exchange(client.write(limiter, 8))
        part = meter.part(Limiter)
        assert (part.normal, part.profile.number, part.profile.duration_s) == (3000, 1, 7200)
        assert part.profile.begins is not None
        assert part.profile.begins.to_utc() == dt.datetime(2026, 3, 12, 11, tzinfo=dt.UTC)

    run(work)


def test_a_customer_whom_a_gurux_client_limits_is_cut_off_by_the_meter() -> None:
    clock = [NOW]

    def work(meter: SimulatedMeter, port: int) -> None:
        client, free = client_for(meter), Consumption(meter.seed, meter.number)
        limiter, breaker = GXDLMSLimiter(LIMITER), GXDLMSDisconnectControl(BREAKER)
        power, energy = GXDLMSRegister(POWER), GXDLMSRegister("1.0.1.8.0.255")
        log = GXDLMSProfileGeneric("0.0.99.98.2.255")
        with talking(client, port) as connection:
            assert connection.read(power, 2) == free.demand(NOW) > 0
            for index, value in ((6, 40), (4, 0)):
                limiter.minOverThresholdDuration = limiter.thresholdNormal = value
                limiter.setDataType(index, DataType.UINT32)
                connection.exchange(client.write(limiter, index))
            clock[0] += 1800
            assert [connection.read(breaker, index) for index in (2, 3)] == [False, 2]
            assert connection.read(energy, 2) == free.at(0, NOW + 40)
            assert connection.read(power, 2) == 0
            connection.read(log, 3)
            assert [row[1] for row in connection.read(log, 2)] == [64, 65]

    run(work, clock=lambda: clock[0])


async def test_we_read_breaker_and_limiter_of_a_gurux_meter() -> None:
    meter = GuruxMeter()
    breaker = GXDLMSDisconnectControl(BREAKER)
    breaker.outputState, breaker.controlState = False, ControlState.READY_FOR_RECONNECTION
    breaker.controlMode = ControlMode.MODE_3
    power = GXDLMSRegister(POWER)
    power.value, power.scaler, power.wire_scaler, power.unit = 0, 1, 10, Unit.ACTIVE_POWER
    limiter = GXDLMSLimiter(LIMITER)
    limiter.monitoredValue, limiter.monitoredAttributeIndex = power, 2
    limiter.thresholdActive = limiter.thresholdNormal = 200
    limiter.thresholdEmergency = 50
    for index in (3, 4, 5):
        limiter.setDataType(index, DataType.UINT32)
    limiter.minOverThresholdDuration, limiter.minUnderThresholdDuration = 30, 60
    limiter.emergencyProfile.id, limiter.emergencyProfile.duration = 7, 3600
    limiter.emergencyProfile.activationTime = GXDateTime(gurux.START)
    limiter.emergencyProfileGroupIDs = [7, 8]
    for item in (breaker, power, limiter):
        meter.items.append(item)
    known = model().model_copy(update={"switch": Switch(), "limit": Limit()})
    with serving(meter) as port:
        async with session_of(plan_for(f"tcp://127.0.0.1:{port}", known)) as session:
            commands = DlmsCommands(session, known)
            found = await commands.read_breaker()
            assert (found.output, found.control, found.mode) == (False, Control.READY, 3)
            assert found.becomes == {Remote.DISCONNECT: Control.DISCONNECTED}
            limit = await commands.read_limit()
    assert (limit.active, limit.normal, limit.emergency) == (Decimal(2000), Decimal(2000), Decimal(500))
    assert (limit.over_s, limit.for_s, limit.group, limit.groups) == (30, 3600, 7, (7, 8))
    assert limit.begins == gurux.START
    assert meter.faults == []


def test_the_modes_are_numbered_as_gurux_numbers_them() -> None:
    assert {int(one) for one in ControlMode} >= set(dc.MODES)
    assert {int(one): one.name for one in ControlState} == {
        0: "DISCONNECTED",
        1: "CONNECTED",
        2: "READY_FOR_RECONNECTION",
    }
