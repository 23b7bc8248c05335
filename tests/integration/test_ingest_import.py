"""CSV imports of meters and of readings on both databases."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import psycopg
import pytest

from headend.ingest.meter_import import import_meters
from headend.ingest.reading_import import import_readings
from headend.keys.seal import MasterKey, Sealer
from headend.keys.transport import wrap
from headend.keys.vault import Vault
from headend.store import audit, meters, points
from protocols.dlms.security import Key
from schemas.meter import KeyPurpose, MeterState
from schemas.reading import Quality

SINCE = datetime(2026, 11, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 22, tzinfo=UTC)
TRANSPORT = Key(b"t" * 16)
EK, PASSWORD = Key(b"e" * 16), Key(b"12345678")
WRAPPED_EK = wrap(KeyPurpose.ENCRYPTION, EK, TRANSPORT).hex()
WRAPPED_LLS = wrap(KeyPurpose.LLS, PASSWORD, TRANSPORT).hex()

HEADING = ";".join(
    ("asset_id", "model", "address", "system_title", "logical_device_name", "feeder", "transformer", "point",
     "encryption_key", "lls_secret")
)  # fmt: skip
FILE = f"""\ufeff{HEADING}
4711;headend-sim;tcp://10.0.0.1;4845440000004711;HED4711;F1;T1;P1;{WRAPPED_EK};{WRAPPED_LLS}

4712;generic-dlms;tcp://10.0.0.2:4059?server=1;;;;;P2;;
"4713";aidon;;;;"F;2";;;;
"""


@pytest.fixture
async def connection(database):
    async with await psycopg.AsyncConnection.connect(database.dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
async def vault(connection):
    return await Vault.open(connection, Sealer(MasterKey(bytes(32))))


@pytest.fixture
def run(connection, vault):
    async def run(text, **more):
        settings = {"vault": vault, "since": SINCE, "actor": "cli", "transport": TRANSPORT} | more
        return await import_meters(connection, text.encode(), **settings)

    return run


def places(result):
    return [(error.line, error.column) for error in result.errors]


async def dump(connection):
    tables = ("meters", "meter_states", "metering_points", "installations", "meter_keys", "audit_log")
    return [await (await connection.execute(f"SELECT * FROM {t} ORDER BY 1, 2")).fetchall() for t in tables]


async def test_a_file_is_stored_with_keys_and_places(connection, vault, run):
    result = await run(FILE)
    assert result.errors == ()
    assert (result.added, result.unchanged) == (("4711", "4712", "4713"), ())
    first, second, third = await meters.page(connection, limit=9)
    assert (first.address, first.system_title) == ("tcp://10.0.0.1:4059", bytes.fromhex("4845440000004711"))
    assert (first.logical_device_name, first.feeder, first.transformer) == ("HED4711", "F1", "T1")
    assert (first.state, first.state_since) == (MeterState.RECEIVED, SINCE)
    assert (second.system_title, second.feeder, third.feeder, third.address) == (None, None, "F;2", None)
    assert await vault.get(connection, first.meter_id) == {
        KeyPurpose.ENCRYPTION: EK,
        KeyPurpose.LLS: PASSWORD,
    }
    at = await points.codes_at(connection, [m.meter_id for m in (first, second, third)], SINCE)
    assert at == {first.meter_id: "P1", second.meter_id: "P2"}
    assert (await audit.page(connection, limit=1))[0].detail == {"added": 3}


async def test_the_same_file_again_has_no_effect(connection, run):
    await run(FILE)
    before = await dump(connection)
    result = await run(FILE, since=SINCE + timedelta(days=1))
    assert (result.added, result.unchanged, result.errors) == ((), ("4711", "4712", "4713"), ())
    assert await dump(connection) == before


async def test_new_lines_are_added_beside_known_ones(run):
    await run(FILE)
    result = await run(FILE + "4714;aidon;;;;;;;;\n")
    assert (result.added, len(result.unchanged)) == (("4714",), 3)


async def test_all_errors_are_told_and_nothing_is_stored(connection, run):
    before = await dump(connection)
    result = await run(
        "asset_id,model,address,system_title,point,state,encryption_key\n"
        "1,headend-sim,tcp://h,4845440000000001,P1,,\n"
        ",headend-sim,,,,,\n"
        "2,unheard-of,http://h,12,,suspended,zz\n"
        "1,headend-sim,,4845440000000001,P1,,00\n"
        "3,headend-sim,,,,\n"
    )
    assert places(result) == [
        (3, "asset_id"),
        (4, "address"), (4, "encryption_key"), (4, "model"), (4, "state"), (4, "system_title"),
        (5, "asset_id"), (5, "encryption_key"), (5, "point"), (5, "system_title"),
        (6, ""),
    ]  # fmt: skip
    assert "line 4, model: no meter model 'unheard-of'" in str(result.errors[3])
    assert await dump(connection) == before


async def test_what_the_database_contradicts(connection, run):
    await run(FILE)
    before = await dump(connection)
    other = wrap(KeyPurpose.ENCRYPTION, Key(b"o" * 16), TRANSPORT).hex()
    result = await run(
        "asset_id,model,address,system_title,logical_device_name,feeder,point,encryption_key\n"
        f"4711,aidon,tcp://10.0.0.9,4845440000004712,HED4712,F9,P9,{other}\n"
        f"4712,generic-dlms,,,,,,{other}\n"
        "9,aidon,,4845440000004711,HED4711,,P2,\n"
    )
    assert places(result) == [
        (2, "address"), (2, "encryption_key"), (2, "feeder"), (2, "logical_device_name"), (2, "model"),
        (2, "point"), (2, "system_title"),
        (3, "encryption_key"),
        (4, "logical_device_name"), (4, "point"), (4, "system_title"),
    ]  # fmt: skip
    assert await dump(connection) == before


async def test_plain_keys_only_behind_the_flag(connection, vault, run):
    text = f"asset_id,model,encryption_key_plain,lls_secret_plain\n1,headend-sim,{'65' * 16},12345678\n"
    assert places(await run(text)) == [(1, "encryption_key_plain"), (1, "lls_secret_plain")]
    result = await run(text, allow_plain_keys=True)
    assert (result.added, result.errors) == (("1",), ())
    meter = await meters.by_asset(connection, "1")
    assert await vault.get(connection, meter.meter_id) == {
        KeyPurpose.ENCRYPTION: EK,
        KeyPurpose.LLS: PASSWORD,
    }


async def test_keys_need_a_transport_key_and_a_master_key(connection, run):
    assert places(await run(FILE, transport=None)) == [(1, "encryption_key"), (1, "lls_secret")]
    assert places(await run(FILE, vault=None)) == [(1, "encryption_key"), (1, "lls_secret")]
    wrong = await run(FILE, transport=Key(b"x" * 16))
    assert places(wrong) == [(2, "encryption_key"), (2, "lls_secret")]
    assert await meters.page(connection, limit=1) == []


async def test_no_error_repeats_a_key(run):
    secret = "5ec7e75ec7e7"
    result = await run(
        "asset_id,model,encryption_key,encryption_key_plain,lls_secret_plain\n"
        f"1,aidon,{secret},{secret}xx,{secret}\n2,aidon,{secret}xx,{secret},\n",
        allow_plain_keys=True,
    )
    assert len(result.errors) == 4
    assert "5ec7e7" not in repr(result)


async def test_a_fleet_may_begin_commissioned(connection, run):
    await run("asset_id,model,state\n1,aidon,commissioned\n2,aidon,\n")
    assert [m.state for m in await meters.page(connection, limit=9)] == [
        MeterState.COMMISSIONED,
        MeterState.RECEIVED,
    ]


READINGS = """asset_id,obis,time,value,unit
4711,1-0:1.8.0*255,2026-11-01T07:30+01:00,12345.678,kWh
4711,1.8.0,2026-11-02T06:30Z,0,Wh
4712,1-0:3.8.0,2026-11-01T00:00:00.000001+00:00,00012.50,
"""


async def stored(connection):
    cursor = await connection.execute(
        "SELECT asset_id, obis, attribute, read_at, value, unit, quality FROM register_reads JOIN meters"
        " USING (meter_id) ORDER BY 1, 4"
    )
    return await cursor.fetchall()


async def test_readings_are_stored_exactly_and_once(connection, run):
    await run(FILE)
    for quality in (Quality.HANDHELD, Quality.HANDHELD):
        result = await import_readings(connection, READINGS.encode(), quality=quality, now=NOW, source="file")
        assert result.errors == ()
    assert (result.written.registers, result.written.repeated) == (0, 3)
    rows = await stored(connection)
    active, reactive = "1-0:1.8.0*255", "1-0:3.8.0*255"
    assert rows == [
        (
            "4711",
            active,
            2,
            datetime(2026, 11, 1, 6, 30, tzinfo=UTC),
            Decimal(12345678),
            "Wh",
            Quality.HANDHELD,
        ),
        ("4711", active, 2, datetime(2026, 11, 2, 6, 30, tzinfo=UTC), Decimal(0), "Wh", Quality.HANDHELD),
        ("4712", reactive, 2, datetime(2026, 11, 1, 0, 0, 0, 1, tzinfo=UTC), Decimal("12.50"), None, 4),
    ]
    assert str(rows[2][4]) == "12.50"


async def test_wrong_readings_are_told_by_line_and_nothing_is_stored(connection, run):
    await run(FILE)
    text = (
        "asset_id,obis,time,value,unit\n"
        "4711,1.8.0,2026-11-01T07:30+01:00,1,Wh\n"
        "9999,1.8.0,2026-11-01T07:30+01:00,1,Wh\n"
        "4711,1.8.300,2026-11-01T07:30,1'000,kilo\n"
        "4711,1.8.0,yesterday,1e3,kh\n"
        "4711,1.8.0,2026-11-22T00:00:01Z,NaN,\n"
        "4711,1.8.0,0001-01-01T00:00+10:00,,\n"
        "4711,1-0:1.8.0*255,2026-11-01T06:30Z,1,Wh\n"
    )
    result = await import_readings(connection, text.encode(), quality=Quality.MANUAL, now=NOW, source="file")
    assert places(result) == [
        (3, "asset_id"),
        (4, "obis"), (4, "time"), (4, "unit"), (4, "value"),
        (5, "time"), (5, "unit"), (5, "value"),
        (6, "time"), (6, "value"),
        (7, "time"), (7, "value"),
        (8, "time"),
    ]  # fmt: skip
    assert result.written is None
    assert await stored(connection) == []


async def test_only_a_persons_qualities(connection):
    with pytest.raises(ValueError, match="MANUAL or HANDHELD"):
        await import_readings(connection, b"", quality=Quality.MEASURED, now=NOW, source="file")
