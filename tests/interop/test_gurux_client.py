"""A Gurux client reads our simulated meter: every value equals what the simulator's generator says."""

import asyncio
import datetime as dt
import os
import threading
import tty
from collections.abc import Callable
from dataclasses import replace

import pytest
from gurux_dlms import GXDateTime
from gurux_dlms.enums import Authentication, Conformance, DataType, Security
from gurux_dlms.GXDLMSConfirmedServiceError import GXDLMSConfirmedServiceError
from gurux_dlms.GXDLMSException import GXDLMSException
from gurux_dlms.GXDLMSSettings import GXDLMSSettings
from gurux_dlms.objects import (
    GXDLMSAssociationLogicalName,
    GXDLMSClock,
    GXDLMSData,
    GXDLMSDemandRegister,
    GXDLMSExtendedRegister,
    GXDLMSProfileGeneric,
    GXDLMSRegister,
    GXDLMSSapAssignment,
    GXDLMSSecuritySetup,
)

from concentrator_sim.field import Field
from concentrator_sim.generator import moment_of, quarter_of
from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.object_model import MANAGEMENT_CLIENT, PUBLIC_CLIENT
from concentrator_sim.scenario import Framing, make_scenario
from concentrator_sim.station import bus_of
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.security import Policy, Protection
from tests.interop.gurux_client import Connection, Refused, make_client, talking

pytestmark = pytest.mark.interop

NOW = int(dt.datetime(2026, 3, 12, 10, 37, 21, tzinfo=dt.UTC).timestamp())
CET = dt.timezone(dt.timedelta(hours=1))
ENERGIES = ("1.0.1.8.0.255", "1.0.2.8.0.255", "1.0.3.8.0.255", "1.0.4.8.0.255")
PROFILE = "1.0.99.1.0.255"
QUARTER = dt.timedelta(minutes=15)
MIDNIGHT = dt.datetime(2026, 3, 11, tzinfo=CET)
AUTHENTICATIONS = {
    "none": Authentication.NONE,
    "lls": Authentication.LOW,
    "hls3": Authentication.HIGH_MD5,
    "hls4": Authentication.HIGH_SHA1,
    "hls5": Authentication.HIGH_GMAC,
    "hls5-suite1": Authentication.HIGH_GMAC,
    "hls5-suite2": Authentication.HIGH_GMAC,
    "hls6": Authentication.HIGH_SHA256,
}


def run(work: Callable[[SimulatedMeter, int], None], prepare=None, clock=lambda: NOW, **scenario) -> None:
    """``work(meter, port)`` in a thread while the simulated field serves one meter from this loop."""

    async def main() -> None:
        field = Field(make_scenario({"meters": 1, "base_port": 0, **scenario}), clock=clock)
        if prepare is not None:
            prepare(field.meters[0].meter)
        async with field:
            item = field.meters[0]
            await asyncio.to_thread(work, item.meter, item.port)

    asyncio.run(main())


def client_for(meter: SimulatedMeter, **options):
    """The Gurux client that fits the meter's mode and keys."""
    keys = meter.keys
    secret = keys.lls or keys.hls
    fitting = {
        "authentication": AUTHENTICATIONS[meter.mode.name],
        "secret": None if secret is None else secret.reveal(),
        "key": None if keys.encryption is None else keys.encryption.reveal(),
        "auth_key": None if keys.authentication is None else keys.authentication.reveal(),
        "suite": int(meter.mode.suite),
        "security": Security.AUTHENTICATION_ENCRYPTION if meter.mode.ciphered else Security.NONE,
    }
    return make_client(**fitting | options)


def truth(meter: SimulatedMeter, first: dt.datetime, count: int) -> list[list]:
    """Rows with these stamps, from the generator alone."""
    quarter = quarter_of(int(first.timestamp()))
    series = [meter.consumption.series(quantity, quarter, count).tolist() for quantity in range(4)]
    stamps = [dt.datetime.fromtimestamp(moment_of(quarter + n), dt.UTC) for n in range(count)]
    return [[stamp, 0, *values] for stamp, *values in zip(stamps, *series, strict=True)]


def rows_of(values) -> list[list]:
    """Rows as Gurux decoded them, their stamps as moments."""
    return [[stamp.value.astimezone(dt.UTC), *(int(cell) for cell in cells)] for stamp, *cells in values]


def profile_of(connection: Connection) -> GXDLMSProfileGeneric:
    profile = GXDLMSProfileGeneric(PROFILE)
    for attribute in (3, 4, 5, 7):
        connection.read(profile, attribute)
    return profile


def rows_between(connection, profile, first: dt.datetime, last: dt.datetime) -> list[list]:
    reply = connection.exchange(
        connection.client.readRowsByRange(profile, GXDateTime(first), GXDateTime(last))
    )
    connection.client.updateValue(profile, 2, reply.value)
    return rows_of(profile.buffer)


def check_meter(connection: Connection, meter: SimulatedMeter) -> None:
    """Everything that a head-end reads, against the generator."""
    for quantity, obis in enumerate(ENERGIES):
        register = GXDLMSRegister(obis)
        assert connection.read(register, 2) == meter.consumption.at(quantity, NOW)
        connection.read(register, 3)
        assert (register.scaler, int(register.unit)) == (1, 30 if quantity < 2 else 32)
    clock = GXDLMSClock("0.0.1.0.0.255")
    connection.read(clock, 2)
    assert clock.time.value.astimezone(dt.UTC) == dt.datetime.fromtimestamp(NOW, dt.UTC)
    assert clock.time.value.utcoffset() == dt.timedelta(hours=1)
    serial, name = GXDLMSData("0.0.96.1.0.255"), GXDLMSData("0.0.42.0.0.255")
    assert bytes(connection.exchange(connection.client.read(serial, 2)).value) == meter.serial.encode()
    assert bytes(connection.exchange(connection.client.read(name, 2)).value) == meter.name.encode()

    profile = profile_of(connection)
    assert profile.capturePeriod == 900
    assert profile.entriesInUse == meter.entries
    assert [(int(o.objectType), o.logicalName) for o, _ in profile.captureObjects] == [
        (8, "0.0.1.0.0.255"),
        (1, "0.0.96.10.1.255"),
        *((3, obis) for obis in ENERGIES),
    ]
    day = rows_between(connection, profile, MIDNIGHT + QUARTER, MIDNIGHT + dt.timedelta(days=1))
    assert day == truth(meter, MIDNIGHT + QUARTER, 96)


@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
@pytest.mark.parametrize("mode", AUTHENTICATIONS)
def test_every_mode(mode, framing):
    def work(meter, port):
        with talking(client_for(meter, hdlc=128 if framing == "hdlc" else None), port) as connection:
            check_meter(connection, meter)

    run(work, security=mode, framing=framing)


def with_settings(**changes):
    """Give the meter's management client other server settings than its mode has."""

    def prepare(meter):
        meter.associate(meter.management, MANAGEMENT_CLIENT, lambda: NOW)  # makes them
        assert meter._management is not None
        meter._management = replace(meter._management, **changes)

    return prepare


SECURITIES = {
    Security.AUTHENTICATION: Protection.AUTHENTICATED,
    Security.ENCRYPTION: Protection.ENCRYPTED,
    Security.AUTHENTICATION_ENCRYPTION: Protection.AUTHENTICATED_ENCRYPTED,
}


@pytest.mark.parametrize("general", [False, True])
@pytest.mark.parametrize("mode", ["hls5", "hls5-suite1", "hls5-suite2"])
@pytest.mark.parametrize("security", SECURITIES)
def test_every_protection_and_form(security, mode, general):
    protection = SECURITIES[security]

    def work(meter, port):
        client = client_for(meter, security=security)
        if not general:
            client.proposedConformance &= ~Conformance.GENERAL_PROTECTION
        with talking(client, port) as connection:
            assert bool(client.negotiatedConformance & Conformance.GENERAL_PROTECTION) is general
            check_meter(connection, meter)

    def prepare(meter):
        with_settings(policy=Policy(protection, protection))(meter)
        cipher = replace(meter._management.cipher, protection=protection)
        meter._management = replace(meter._management, cipher=cipher)

    run(work, prepare, security=mode)


@pytest.mark.parametrize("general", [False, True])
def test_dedicated_key(general):
    def work(meter, port):
        client = client_for(meter, dedicated=bytes(range(50, 66)))
        if not general:
            client.proposedConformance &= ~Conformance.GENERAL_PROTECTION
        with talking(client, port) as connection:
            check_meter(connection, meter)

    run(work, security="hls5")


def test_hls_gmac_in_the_clear():
    """Mechanism 5 with the plain application context: the keys prove, and cipher nothing."""

    def work(meter, port):
        with talking(client_for(meter, security=Security.NONE), port) as connection:
            check_meter(connection, meter)

    run(work, with_settings(policy=Policy()), security="hls5")


@pytest.mark.parametrize("security", ["none", "hls5"])
@pytest.mark.parametrize("max_pdu", [160, 256, 1024, 0xFFFF])
def test_a_week_in_blocks(max_pdu, security):
    first = MIDNIGHT - dt.timedelta(days=7)

    def work(meter, port):
        with talking(client_for(meter, max_pdu=max_pdu), port) as connection:
            rows = rows_between(connection, profile_of(connection), first, MIDNIGHT)
            assert rows == truth(meter, first, 7 * 96 + 1)

    run(work, security=security, max_pdu=max_pdu)


@pytest.mark.parametrize("block_size", [1, 17, 100])
def test_blocks_smaller_than_the_pdu(block_size):
    def work(meter, port):
        with talking(client_for(meter), port) as connection:
            rows = rows_between(connection, profile_of(connection), MIDNIGHT, MIDNIGHT + 3 * QUARTER)
            assert rows == truth(meter, MIDNIGHT, 4)
            assert len(connection.objects()) > 10

    run(work, security="none", block_size=block_size)


def test_rows_by_entry_and_selected_columns():
    def work(meter, port):
        newest = dt.datetime.fromtimestamp(moment_of(quarter_of(NOW)), dt.UTC)
        with talking(client_for(meter), port) as connection:
            client, profile = connection.client, profile_of(connection)
            for first, count in ((1, 1), (1, 96), (meter.entries - 3, 4), (200, 7)):
                reply = connection.exchange(client.readRowsByEntry(profile, first, count))
                client.updateValue(profile, 2, reply.value)
                oldest = newest - (meter.entries - first) * QUARTER
                assert rows_of(profile.buffer) == truth(meter, oldest, count)
            reply = connection.exchange(client.readRowsByEntry(profile, meter.entries + 1, 5))
            assert not reply.value
            some = [profile.captureObjects[0], profile.captureObjects[3]]
            reply = connection.exchange(
                client.readRowsByRange(profile, GXDateTime(MIDNIGHT), GXDateTime(MIDNIGHT + QUARTER), some)
            )
            export = [row[3] for row in truth(meter, MIDNIGHT, 2)]
            assert [(len(row), row[1]) for row in reply.value] == [(2, value) for value in export]

    run(work, security="hls5")


@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
def test_object_list_and_what_it_leads_to(framing):
    def work(meter, port):
        with talking(client_for(meter, hdlc=None if framing == "wrapper" else 128), port) as connection:
            listed = {(int(o.objectType), o.logicalName) for o in connection.objects()}
            assert listed >= {
                (8, "0.0.1.0.0.255"),
                (1, "0.0.42.0.0.255"),
                (7, PROFILE),
                (15, "0.0.40.0.0.255"),
                (17, "0.0.41.0.0.255"),
                (64, "0.0.43.0.0.255"),
                *((3, obis) for obis in ENERGIES),
            }
            extended, demand = GXDLMSExtendedRegister("1.0.1.6.0.255"), GXDLMSDemandRegister("1.0.1.4.0.255")
            for index in (2, 3, 5):
                connection.read(extended, index)
            quarter = quarter_of(int(extended.captureTime.value.timestamp()))
            before, after = meter.consumption.series(0, quarter - 1, 2).tolist()
            assert extended.value == (after - before) * 4
            for index in (2, 3, 4, 6, 7, 8, 9):
                connection.read(demand, index)
            assert demand.period == 900
            saps = GXDLMSSapAssignment("0.0.41.0.0.255")
            connection.read(saps, 2)
            assert [(sap, str(name)) for sap, name in saps.sapAssignmentList] == [
                (device.sap, device.name) for device in meter.devices
            ]
            setup = GXDLMSSecuritySetup("0.0.43.0.0.255")
            for index in (2, 3, 4, 5):
                connection.read(setup, index)
            assert int(setup.securitySuite) == int(meter.mode.suite)
            assert bytes(setup.serverSystemTitle) == meter.system_title

    run(work, security="hls5-suite1", framing=framing, further_devices=2)


@pytest.mark.parametrize("security", ["none", "hls5"])
def test_get_with_list(security):
    def work(meter, port):
        with talking(client_for(meter), port) as connection:
            registers = [GXDLMSRegister(obis) for obis in ENERGIES]
            values = connection.read_list([(register, 2) for register in registers])
            assert values == [meter.consumption.at(quantity, NOW) for quantity in range(4)]

    run(work, security=security)


def test_refusals_leave_the_association_standing():
    def work(meter, port):
        with talking(client_for(meter), port) as connection:
            client = connection.client
            for item, index, error in (
                (GXDLMSRegister("1.0.99.99.99.255"), 2, DataAccessResult.OBJECT_UNDEFINED),
                (GXDLMSData(ENERGIES[0]), 2, DataAccessResult.OBJECT_CLASS_INCONSISTENT),
            ):
                with pytest.raises(Refused) as refusal:
                    connection.read(item, index)
                assert refusal.value.error == error
            register = GXDLMSRegister(ENERGIES[0])
            register.value = 5
            register.setDataType(2, DataType.UINT32)
            with pytest.raises(Refused) as refusal:
                connection.exchange(client.write(register, 2))
            assert refusal.value.error == DataAccessResult.READ_WRITE_DENIED
            with pytest.raises(Refused) as refusal:
                connection.exchange(client.method(register, 1, 0, DataType.INT8))
            assert refusal.value.error == ActionResult.READ_WRITE_DENIED
            check_meter(connection, meter)

    run(work, security="hls5")


@pytest.mark.parametrize(
    ("mode", "wrong"),
    [
        ("lls", {"secret": b"87654321"}),
        ("hls3", {"secret": b"wrong"}),
        ("hls4", {"secret": b"wrong"}),
        ("hls6", {"secret": b"wrong"}),
        ("hls5", {"auth_key": bytes(16)}),
        ("hls5", {"key": bytes(16)}),
        ("hls5", {"security": Security.NONE}),
        ("hls5", {"security": Security.AUTHENTICATION}),
        ("hls5", {"authentication": Authentication.NONE}),
        ("none", {"authentication": Authentication.LOW, "secret": b"12345678"}),
    ],
)
def test_who_cannot_prove_himself_gets_nothing(mode, wrong):
    def work(meter, port):
        # Gurux has one error for an association that is refused, others for what it finds inside.
        with (
            pytest.raises((GXDLMSException, Refused, ValueError, GXDLMSConfirmedServiceError)),
            talking(client_for(meter, **wrong), port),
        ):
            pass
        with talking(client_for(meter), port) as connection:
            check_meter(connection, meter)

    run(work, security=mode)


SIZES = [(32, 32), (128, 32), (32, 128), (128, 128), (512, 1024), (2030, 2030)]


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize(
    ("ours", "theirs", "mode"),
    [
        *((ours, theirs, "none") for ours, theirs in SIZES),
        # Its ciphered request for the next block has 40 bytes, and of its segments it sends the first alone.
        *((max(ours, 64), max(theirs, 64), "hls5") for ours, theirs in SIZES),
    ],
)
def test_hdlc_sizes_and_addresses(ours, theirs, mode, width):
    def work(meter, port):
        with talking(client_for(meter, hdlc=theirs, width=width), port) as connection:
            check_meter(connection, meter)

    run(work, security=mode, framing="hdlc", hdlc_max_info=ours, hdlc_window=3)


def test_public_client_reads_the_counter_and_nothing_else():
    def work(meter, port):
        with talking(client_for(meter), port) as connection:
            check_meter(connection, meter)
        public = make_client(client_sap=PUBLIC_CLIENT)
        with talking(public, port) as connection:
            counter = GXDLMSData("0.0.43.1.0.255")
            assert connection.read(counter, 2) == meter.last_client_counter
            assert counter.value > 0
            with pytest.raises(Refused) as refusal:
                connection.read(GXDLMSRegister(ENERGIES[0]), 2)
            assert refusal.value.error == DataAccessResult.READ_WRITE_DENIED

    run(work, security="hls5")


@pytest.mark.parametrize("security", ["none", "hls5"])
def test_general_block_transfer(security, monkeypatch):
    # Its acknowledgement reads its own block number from a name that its settings do not have.
    monkeypatch.setattr(GXDLMSSettings, "blockNumber", property(lambda s: s.blockIndex), raising=False)

    def work(meter, port):
        client = client_for(meter, max_pdu=256)
        client.proposedConformance |= Conformance.GENERAL_BLOCK_TRANSFER
        client.gbtWindowSize = 3
        with talking(client, port) as connection:
            check_meter(connection, meter)
            assert connection.general_blocks > 5

    run(work, with_settings(prefer_gbt=True, gbt_window=3), security=security, max_pdu=256)


@pytest.mark.parametrize("mode", ["none", "hls5"])
def test_over_udp(mode):
    def work(meter, port):
        with talking(client_for(meter), port, udp=True) as connection:
            check_meter(connection, meter)

    run(work, security=mode, framing="udp")


@pytest.mark.parametrize("mode", ["lls", "hls5"])
def test_over_a_serial_line(mode):
    field = Field(make_scenario({"meters": 1, "security": mode, "framing": "hdlc"}), clock=lambda: NOW)
    meter = field.meters[0].meter
    line = field.line(bus_of([meter]), Framing.HDLC)
    ours, theirs = os.openpty()
    tty.setraw(theirs)

    def serve():
        while data := os.read(ours, 4096):
            if data == b"end":  # no HDLC: the test's own last word
                return
            os.write(ours, line.receive(data))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        with talking(client_for(meter, hdlc=128), os.ttyname(theirs)) as connection:
            check_meter(connection, meter)
    finally:
        os.write(theirs, b"end")
        thread.join(10)
        os.close(theirs)
        os.close(ours)
    assert not thread.is_alive()


@pytest.mark.parametrize("security", ["none", "hls5"])
@pytest.mark.parametrize("max_pdu", [192, 1024])
def test_a_list_with_long_values_comes_in_blocks(max_pdu, security):
    """GET with list whose answer, the object list in its middle, needs many blocks."""

    def work(meter, port):
        with talking(client_for(meter, max_pdu=max_pdu), port) as connection:
            association = GXDLMSAssociationLogicalName()
            values = connection.read_list(
                [(GXDLMSRegister(ENERGIES[0]), 2), (association, 2), (GXDLMSRegister(ENERGIES[2]), 2)]
            )
            first, listed, last = values
            assert (first, last) == (meter.consumption.at(0, NOW), meter.consumption.at(2, NOW))
            assert len(listed) == len(connection.objects())

    run(work, security=security, max_pdu=max_pdu)
