"""What programs tell meters, between Gurux' code and ours: our commands at a meter of its objects, which take
and give back all values by Gurux' code, and its client at our simulated meter.

No recorded trace of a meter that is told such things was at hand: a peer by other hands is the best there is.
"""

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from gurux_dlms import GXDateTime
from gurux_dlms.enums import DataType, ObjectType, Unit
from gurux_dlms.objects import (
    GXDLMSActionSchedule,
    GXDLMSActivityCalendar,
    GXDLMSCaptureObject,
    GXDLMSClock,
    GXDLMSData,
    GXDLMSDisconnectControl,
    GXDLMSLimiter,
    GXDLMSProfileGeneric,
    GXDLMSPushSetup,
    GXDLMSRegister,
    GXDLMSRegisterActivation,
    GXDLMSScript,
    GXDLMSScriptAction,
    GXDLMSScriptTable,
    GXDLMSSpecialDaysTable,
)
from gurux_dlms.objects.enums import ControlMode, ControlState
from gurux_dlms.objects.GXDLMSObjectDefinition import GXDLMSObjectDefinition

from concentrator_sim.image import ImageStore
from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.parameters import BILLING_RESET, Parameters
from concentrator_sim.push_setup import PUSH_SETUP
from headend.drivers.commands.switch import Control, Remote
from headend.drivers.commands.tariff import TariffPart
from headend.drivers.dlms.commands import DlmsCommands
from protocols.errors import ActionRefused
from schemas.model import Firmware, Limit, Switch
from schemas.model.tariff import Tariff
from schemas.programs.tariff import TariffProgram
from schemas.tariff.calendar import compiled, differences
from tests.integration.programs.tariffs import THREE
from tests.interop import gurux_server as gurux
from tests.interop.gurux_client import Refused, talking
from tests.interop.gurux_commanded import CommandedMeter
from tests.interop.gurux_server import serving
from tests.interop.test_gurux_client import NOW, client_for, run
from tests.interop.test_gurux_server import model, plan_for, session_of

pytestmark = pytest.mark.interop

SCHEDULE = "0.0.15.0.2.255"
PARTS = (TariffPart.DAYS, TariffPart.WEEKS, TariffPart.SEASONS, TariffPart.NAME, TariffPart.SPECIAL_DAYS)
SCRIPTS, REGISTERS = "0.0.10.0.100.255", "0.0.14.0.1.255"


def told(meter: CommandedMeter, work: Callable[[DlmsCommands], Awaitable[None]], **known: Any) -> None:
    """``work`` with our commands in a session with the meter, of a model that says what is ``known``."""

    async def main(port: int) -> None:
        the_model = model().model_copy(update=known)
        async with session_of(plan_for(f"tcp://127.0.0.1:{port}", the_model)) as session:
            await work(DlmsCommands(session, the_model))

    with serving(meter) as port:
        asyncio.run(main(port))
    assert meter.faults == []


# ---- class 22 -----------------------------------------------------------------------------------------


def test_our_client_gives_a_foreign_schedule_its_moment() -> None:
    schedule = GXDLMSActionSchedule(SCHEDULE)
    meter = CommandedMeter(schedule)
    (clock,) = [one for one in meter.items if one.objectType == ObjectType.CLOCK]
    clock.timeZone = -60

    async def work(ours: DlmsCommands) -> None:
        await ours.activate_image_at(dt.datetime(2026, 12, 1, 2, 30, 15, tzinfo=dt.UTC))

    told(meter, work, firmware=Firmware(scheduler="0-0:15.0.2*255"))
    assert meter.written == [(22, 4)]
    (moment,) = schedule.executionTime
    assert moment.value.replace(tzinfo=None) == dt.datetime(2026, 12, 1, 3, 30, 15)  # noqa: DTZ001 - local


def test_a_foreign_client_gives_our_schedule_its_moment() -> None:
    def work(meter: SimulatedMeter, port: int) -> None:
        with talking(client_for(meter), port) as connection:
            schedule = GXDLMSActionSchedule(SCHEDULE)
            for attribute in (2, 3, 4):
                connection.read(schedule, attribute)
            assert (schedule.target.logicalName, schedule.executedScriptSelector) == ("0.0.10.0.107.255", 1)
            assert (int(schedule.type_), schedule.executionTime) == (1, [])
            at = dt.datetime(2030, 3, 1, 4, 5, 6)  # noqa: DTZ001 - the meter's local time
            schedule.executionTime = [GXDateTime(at)]
            connection.exchange(connection.client.write(schedule, 4))
            connection.read(schedule, 4)
            assert [one.value.replace(tzinfo=None) for one in schedule.executionTime] == [at]
            store = meter.part(ImageStore)
            assert store.activates_at_s == int(dt.datetime(2030, 3, 1, 3, 5, 6, tzinfo=dt.UTC).timestamp())
            schedule.executionTime = [GXDateTime(dt.datetime(2020, 1, 1))]  # noqa: DTZ001
            with pytest.raises(Refused):  # past
                connection.exchange(connection.client.write(schedule, 4))

    run(work)


# ---- classes 70 and 71 --------------------------------------------------------------------------------


def test_our_client_switches_a_foreign_breaker() -> None:
    breaker = GXDLMSDisconnectControl("0.0.96.3.10.255")
    breaker.outputState, breaker.controlState = True, ControlState.CONNECTED
    breaker.controlMode = ControlMode.MODE_4

    def moves(output: bool, state: ControlState) -> Callable[[Any], None]:
        def move(parameter: Any) -> None:
            assert parameter == 0
            breaker.outputState, breaker.controlState = output, state

        return move

    methods = {
        (70, 1): moves(False, ControlState.DISCONNECTED),
        (70, 2): moves(True, ControlState.CONNECTED),
    }
    meter = CommandedMeter(breaker, methods=methods)

    async def work(ours: DlmsCommands) -> None:
        await ours.switch(Remote.DISCONNECT)
        found = await ours.read_breaker()
        assert (found.output, found.control, found.mode) == (False, Control.DISCONNECTED, 4)
        await ours.switch(Remote.RECONNECT)
        assert (await ours.read_breaker()).output
        del methods[70, 1]
        with pytest.raises(ActionRefused):
            await ours.switch(Remote.DISCONNECT)

    told(meter, work, switch=Switch())
    assert meter.invoked == [(70, 1, 0), (70, 2, 0), (70, 1, 0)]


def test_our_client_limits_a_foreign_meter() -> None:
    power = GXDLMSRegister("1.0.1.7.0.255")
    power.value, power.scaler, power.wire_scaler, power.unit = 0, 1, 10, Unit.ACTIVE_POWER
    limiter = GXDLMSLimiter("0.0.17.0.0.255")
    limiter.monitoredValue, limiter.monitoredAttributeIndex = power, 2
    limiter.thresholdActive = limiter.thresholdNormal = limiter.thresholdEmergency = 1000
    for index in (3, 4, 5):
        limiter.setDataType(index, DataType.UINT32)
    limiter.emergencyProfile.activationTime = GXDateTime(gurux.START)
    limiter.emergencyProfileGroupIDs = [7]
    meter = CommandedMeter(power, limiter)
    begins = dt.datetime(2026, 12, 1, 8, tzinfo=dt.UTC)

    async def work(ours: DlmsCommands) -> None:
        await ours.limit(2000, None)
        await ours.limit_for(500, 45, 7, begins, 7200)
        found = await ours.read_limit()
        assert (found.normal, found.emergency, found.over_s) == (2000, 500, 45)
        assert (found.group, found.begins, found.for_s) == (7, begins, 7200)

    told(meter, work, limit=Limit())
    assert (limiter.thresholdNormal, limiter.thresholdEmergency) == (200, 50)  # its scaler is 1
    assert [index for _, index in meter.written] == [4, 5, 6, 8]


# ---- classes 20 and 11, 9 and 6 -----------------------------------------------------------------------


def _scripts() -> GXDLMSScriptTable:
    """Three scripts that set masks; the release's decoder of tables is not asked."""
    table = GXDLMSScriptTable(SCRIPTS)
    for number in (1, 2, 3):
        action = GXDLMSScriptAction()
        action.type_, action.objectType, action.logicalName = 1, ObjectType.REGISTER_ACTIVATION, REGISTERS
        action.index, action.parameterDataType, action.parameter = 4, DataType.OCTET_STRING, b"T%d" % number
        script = GXDLMSScript()
        script.id, script.actions = number, [action]
        table.scripts.append(script)
    return table


def _masks() -> GXDLMSRegisterActivation:
    """A mask for each of two tariffs; the third has the second's register, which is wrong."""
    found = GXDLMSRegisterActivation(REGISTERS)
    found.registerAssignment = [
        GXDLMSObjectDefinition(ObjectType.REGISTER, f"1.0.1.8.{tariff}.255") for tariff in (1, 2)
    ]
    found.maskList = [(b"T1", [1]), (b"T2", [2]), (b"T3", [2])]
    return found


def test_our_client_gives_a_foreign_meter_a_calendar() -> None:
    calendar, specials = GXDLMSActivityCalendar("0.0.13.0.0.255"), GXDLMSSpecialDaysTable("0.0.11.0.0.255")
    calendar.calendarNameActive = calendar.calendarNamePassive = "OLD"
    for part in ("seasonProfile", "weekProfileTable", "dayProfileTable"):
        setattr(calendar, f"{part}Active", [])
        setattr(calendar, f"{part}Passive", [])
    specials.entries = []

    def activate(parameter: Any) -> None:
        assert parameter == 0
        for part in ("calendarName", "seasonProfile", "weekProfileTable", "dayProfileTable"):
            setattr(calendar, f"{part}Active", getattr(calendar, f"{part}Passive"))

    meter = CommandedMeter(calendar, specials, _scripts(), _masks(), methods={(20, 1): activate})
    limits = Tariff(selectors={1: 1, 2: 2, 3: 3})
    document = TariffProgram.model_validate(
        {"kind": "tariff", "document": {**THREE, "activation": "at once"}}
    ).document
    wanted = compiled(document, limits, {"work": 1, "rest": 2})
    at = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)

    async def work(ours: DlmsCommands) -> None:
        assert await ours.tariff_misfits(wanted, {1: 1, 2: 2, 3: 3}) == [
            "script 3 counts energy of tariff 2, not 3: mask 'T3'"
        ]
        await ours.write_tariff(PARTS, wanted)
        await ours.activate_tariff(at)
        found = await ours.read_tariff()
        assert (found.active.name, found.activates_at) == ("OLD", at)
        assert found.passive is not None
        assert differences(wanted.calendar, found.passive) == []
        await ours.disarm_tariff()
        assert (await ours.read_tariff()).activates_at is None
        await ours.activate_tariff(None)
        found = await ours.read_tariff()
        assert differences(wanted.calendar, found.active) == []
        assert found.specials == wanted.specials

    told(meter, work, tariff=limits)
    assert meter.invoked == [(20, 1, 0)]
    assert calendar.calendarNameActive == "THREE"
    assert [one.dayId for one in calendar.dayProfileTableActive] == [1, 2]


def test_our_client_runs_a_foreign_script() -> None:
    meter = CommandedMeter(GXDLMSScriptTable("0.0.10.0.1.255"), methods={(9, 1): lambda script: None})

    async def work(ours: DlmsCommands) -> None:
        await ours.run_script("0-0:10.0.1*255", 1)

    told(meter, work)
    assert meter.invoked == [(9, 1, 1)]


def test_a_foreign_client_runs_our_script() -> None:
    def work(meter: SimulatedMeter, port: int) -> None:
        with talking(client_for(meter), port) as connection:
            table = GXDLMSScriptTable(".".join(map(str, BILLING_RESET.raw)))
            (script,) = connection.read(table, 2)
            connection.exchange(table.execute(connection.client, script))
        assert meter.part(Parameters).resets == [NOW]

    run(work)


# ---- classes 40 and 7 ---------------------------------------------------------------------------------

DESTINATION = {"structure": [{"enum": 0}, {"octets": b"10.0.0.1:4059".hex()}, {"enum": 0}]}
COLUMNS = [
    (8, "0.0.1.0.0.255", 2),
    (3, "1.0.1.8.0.255", 2),
]


def test_our_client_parametrises_a_foreign_meter() -> None:
    push = GXDLMSPushSetup("0.0.25.9.0.255")
    push.version = 0
    push.setDataType(5, DataType.UINT16)
    push.setDataType(6, DataType.UINT8)
    push.setDataType(7, DataType.UINT16)
    meter = CommandedMeter(push)
    (profile,) = [
        one for one in meter.items
        if one.objectType == ObjectType.PROFILE_GENERIC and one.logicalName == gurux.PROFILE
    ]  # fmt: skip
    objects = {
        "array": [
            {"structure": [{"u16": class_id}, {"octets": _raw(obis)}, {"i8": index}, {"u16": 0}]}
            for class_id, obis, index in COLUMNS
        ]
    }
    wanted: list[tuple[int, str, int, dict[str, Any]]] = [
        (40, "0-0:25.9.0*255", 3, DESTINATION),
        (40, "0-0:25.9.0*255", 2, objects),
        (40, "0-0:25.9.0*255", 5, {"u16": 30}),
        (40, "0-0:25.9.0*255", 6, {"u8": 3}),
        (7, "1-0:99.1.0*255", 3, objects),
        (7, "1-0:99.1.0*255", 4, {"u32": 3600}),
    ]

    async def work(ours: DlmsCommands) -> None:
        for class_id, obis, index, value in wanted:
            assert not ours.is_same(value, await ours.read_parameter(class_id, obis, index))
            await ours.write_parameter(class_id, obis, index, value)
            assert ours.is_same(value, await ours.read_parameter(class_id, obis, index))

    told(meter, work)
    assert (push.destination, push.randomisationStartInterval, push.numberOfRetries) == (
        "10.0.0.1:4059",
        30,
        3,
    )
    for captured in (profile.captureObjects, push.pushObjectList):
        assert [(int(one.objectType), one.logicalName, of.attributeIndex) for one, of in captured] == COLUMNS
    assert (profile.capturePeriod, profile.buffer) == (3600, [])


def test_a_foreign_client_parametrises_our_meter() -> None:
    def work(meter: SimulatedMeter, port: int) -> None:
        with talking(client_for(meter), port) as connection:
            push = GXDLMSPushSetup(".".join(map(str, PUSH_SETUP.raw)))
            push.version = 0
            push.destination = "10.0.0.1:4059"
            push.pushObjectList = [(GXDLMSClock("0.0.1.0.0.255"), GXDLMSCaptureObject(2, 0))]
            for index in (2, 3):
                connection.exchange(connection.client.write(push, index))
            again = GXDLMSPushSetup(push.logicalName)
            again.version = 0
            for index in (2, 3, 5, 6, 7):
                connection.read(again, index)
            assert again.destination == "10.0.0.1:4059"
            assert [one.logicalName for one, _ in again.pushObjectList] == ["0.0.1.0.0.255"]
            profile = GXDLMSProfileGeneric(gurux.PROFILE)
            connection.read(profile, 3)
            for one in (
                GXDLMSClock("0.0.1.0.0.255"),
                GXDLMSData("0.0.96.10.1.255"),
                GXDLMSRegister("1.0.1.8.0.255"),
            ):
                if one.logicalName == "0.0.1.0.0.255":
                    profile.captureObjects = []
                profile.addCaptureObject(one, 2, 0)
            connection.exchange(connection.client.write(profile, 3))
        part = meter.part(Parameters)
        assert (part.columns, part.cleared_s) == ((0, 1, 2), NOW)

    run(work)


def _raw(obis: str) -> str:
    return bytes(map(int, obis.split("."))).hex()
