"""Modbus meters in the service: imported, read now, sampled at boundaries, stored with their own times."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg

from headend.store import meters
from schemas.reading import Quality
from schemas.register_model import load_register_model
from tests.integration.modbus_peers import image, port_of, serving_line, serving_tcp, slave
from tests.integration.reading import registers_of
from tests.integration.test_collect import add, house_of

MODEL = "eastron-sdm120"
HELD = {"voltage": Decimal("230.2"), "import_energy_active": Decimal(1234567)}
PERIOD_S, TOLERANCE_S = 4, 1


async def test_a_meter_on_a_serial_line_is_read_now(embedded_database: Any) -> None:
    device = slave(7, image(load_register_model(MODEL), HELD))
    async with serving_line(device) as place, house_of(embedded_database.dsn) as house:
        await add(
            house, f"asset_id,model,address,state\nM1,{MODEL},modbus+rtu://{place}?unit=7,commissioned\n"
        )
        async with house.base.pool.connection() as connection:
            (meter,) = await meters.find(connection, asset_ids=["M1"])
        found = await registers_of(house, meter, "1-0:32.7.0*255")
        assert [(one.obis, one.value, one.unit) for one in found] == [
            ("1-0:32.7.0*255", Decimal("230.2"), "V")
        ]
    with psycopg.connect(embedded_database.dsn) as connection:
        rows = connection.execute("SELECT obis, value, from_float FROM register_reads").fetchall()
    assert rows == [("1-0:32.7.0*255", Decimal("230.2"), True)]


async def test_meters_of_a_bus_are_sampled_and_a_dead_one_is_missing(database: Any) -> None:
    model = load_register_model(MODEL)
    slaves = [
        slave(unit, image(model, {**HELD, "import_energy_active": Decimal(1000 * unit)}))
        for unit in (1, 2, 3)
    ]
    async with (
        serving_tcp(*slaves) as server,
        house_of(
            database.dsn,
            sample_period_s=PERIOD_S,
            sample_tolerance_s=TOLERANCE_S,
            modbus_response_timeout_s=0.2,
        ) as house,
    ):
        address = f"modbus+tcp://127.0.0.1:{port_of(server)}"
        lines = "".join(f"M{unit},{MODEL},{address}?unit={unit},commissioned\n" for unit in (1, 2, 3, 9))
        await add(house, f"asset_id,model,address,state\n{lines}")
        rounds: list[Any] = []
        async with house.at_work("test") as crew:
            sampler = house.sampler(crew)
            sampler._on_round = rounds.append
            task = asyncio.create_task(sampler.run())
            async with asyncio.timeout(60):
                while len(rounds) < 2:  # noqa: ASYNC110 - boundaries come with the clock
                    await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    first, second = rounds[:2]
    assert second.boundary - first.boundary == timedelta(seconds=PERIOD_S)
    with psycopg.connect(database.dsn) as connection:
        rows = connection.execute(
            """SELECT asset_id, start, period_s, stamp, quality, active_import, active_export
               FROM interval_reads JOIN meters USING (meter_id) ORDER BY start, asset_id"""
        ).fetchall()
    assert {row[0] for row in rows} == {"M1", "M2", "M3"}
    for asset_id, start, period_s, stamp, quality, imported, exported in rows:
        unit = int(asset_id[1:])
        assert (period_s, quality) == (PERIOD_S, Quality.SAMPLED)
        assert start.astimezone(UTC).timestamp() % PERIOD_S == 0
        assert abs(stamp - (start + timedelta(seconds=PERIOD_S))) <= timedelta(seconds=TOLERANCE_S)
        assert (imported, exported) == (1000 * unit * 10**6, 0)  # microwatt-hours
    for one in (first, second):
        assert (one.due, one.sampled) == (4, 3)
        assert set(one.failures) == {"M9"}
    starts = {row[1] for row in rows}
    assert {one.boundary - timedelta(seconds=PERIOD_S) for one in (first, second)} <= starts
    assert max(starts) <= datetime.now(UTC)
