"""Slaves of a Modbus bus are given another program by file records, over real sockets."""

from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from concentrator_sim.image import ImageStore, Troubles
from concentrator_sim.modbus_station import ModbusStation
from schemas.campaign import MeterProgress
from tests.integration.programs.field import Works
from tests.integration.programs.test_firmware import PATIENT, PLAN, SIZE, field, packed, uploaded

MODEL = "headend-sim-modbus"
BLOCKS = -(-SIZE // 128)
PACKAGE = {"models": (MODEL,)}


def bus(dsn: str, kind: str = "modbus_tcp", **scenario: Any) -> AbstractAsyncContextManager[Works]:
    """A gateway with slaves that take images, and one that takes none."""
    models = [MODEL, MODEL, "eastron-sdm120"]
    stations = [{"kind": kind, "meters": 3, "models": models}]
    settings = {"modbus_response_timeout_s": 1.0}
    return field(dsn, meters=1, stations=stations, settings=settings, **scenario)


def station(here: Works) -> ModbusStation:
    (found,) = here.field.stations
    assert isinstance(found, ModbusStation)
    return found


def memory(here: Works, unit: int) -> ImageStore:
    return station(here)._slaves[unit].meter.part(ImageStore)


@pytest.mark.parametrize("kind", ["modbus_tcp", "modbus_rtu_tcp"])
async def test_a_break_in_the_middle_and_no_stored_record_sent_again(
    embedded_database: Any, kind: str
) -> None:
    """The connection goes while a record is written: that is stored, and its answer never comes."""
    async with bus(embedded_database.dsn, kind) as here:
        broken: list[int] = []

        def breaks(now: float) -> bool:
            if memory(here, 1).counts.blocks in (7, 23) and memory(here, 1).counts.blocks not in broken:
                broken.append(memory(here, 1).counts.blocks)
                for connection in tuple(station(here)._open):
                    connection.close()
            return False

        memory(here, 1).troubles = Troubles(flash_refuses=breaks)
        found = await here.apply(await uploaded(here, packed(**PACKAGE)), PATIENT)
        done = [one for one in found if one.state is MeterProgress.DONE]
        assert (len(found), len(done)) == (4, 2), [(one.state, one.reason) for one in found]
        assert broken == [7, 23]
        for unit in (1, 2):
            assert memory(here, unit).version == "2.0.0"
            assert memory(here, unit).counts == (BLOCKS, 0, 0, 1)
        held = {"size": SIZE, "identification": b"SIM-2.0.0".hex(), "signature": ""}
        assert [one.proof["held"] for one in done] == [[held]] * 2
        assert done[0].proof["version"] == "2.0.0"


async def test_worn_memory_and_an_image_that_arrives_wrong(embedded_database: Any) -> None:
    async with bus(embedded_database.dsn, image={**PLAN, "verify_s": 1}) as here:
        left = {"refused": 3, "spoilt": 1}

        def strikes(kind: str) -> bool:
            left[kind] -= 1
            return left[kind] >= 0

        memory(here, 1).troubles = Troubles(flash_refuses=lambda now: strikes("refused"))
        memory(here, 2).troubles = Troubles(flash_spoils=lambda now: strikes("spoilt"))
        found = await here.apply(await uploaded(here, packed(**PACKAGE)), PATIENT)
        assert sum(one.state is MeterProgress.DONE for one in found) == 2, [one.reason for one in found]
        assert memory(here, 1).counts == (BLOCKS, 0, 0, 1)  # refused blocks are not counted
        assert memory(here, 2).counts == (2 * BLOCKS, 0, 0, 2)
        assert [memory(here, unit).version for unit in (1, 2)] == ["2.0.0", "2.0.0"]


async def test_an_image_of_odd_size(embedded_database: Any) -> None:
    """No image of the simulator's own: it makes its identifier its version."""
    image = b"not a simulated one" * 7 + b"12"
    assert len(image) == 135
    async with bus(embedded_database.dsn) as here:
        package = packed(image, **PACKAGE, version_to="SIM-2.0.0")
        found = await here.apply(await uploaded(here, package), PATIENT)
        assert sum(one.state is MeterProgress.DONE for one in found) == 2, [one.reason for one in found]
        assert memory(here, 1).counts == (2, 0, 0, 1)
