"""Lanes that are bound to a place are worked at where that is, once at a time."""

import asyncio
from pathlib import Path

import pytest

from headend.jobs.here import Here, has_device
from headend.store.queue import is_bound


class Work:
    """What works at lanes, at the edge: it is told when to end."""

    def __init__(self) -> None:
        self.lanes: list[str] = []
        self.go_on = asyncio.Event()

    async def __call__(self, lane: str) -> None:
        self.lanes.append(lane)
        await self.go_on.wait()


@pytest.mark.parametrize(
    ("lane", "bound"),
    [
        ("inbound:7", True),
        ("line:modbus+rtu:///dev/ttyUSB0", True),
        ("line:hdlc+serial:///dev/ttyUSB0", True),
        ("line:iec62056+serial:///dev/ttyUSB0", True),
        ("line:modbus+rtu+tcp://gateway:4001", False),
        ("line:modbus+tcp://gateway:502", False),
        ("line:dlt645+mqtt:///plant/gw7", False),
        ("lot:3", False),
        ("station:4", False),
    ],
)
def test_which_lanes_are_bound_to_a_place(lane: str, bound: bool) -> None:
    assert is_bound(lane) == bound


def test_only_serial_lines_need_a_device(tmp_path: Path) -> None:
    (tmp_path / "tty").touch()
    there = f"line:p1+serial://{tmp_path}/tty"
    assert [has_device(lane) for lane in (there, f"{there}1", "line:p1+tcp://h:1", "lot:1", "inbound:1")] == [
        True, False, True, True, True,
    ]  # fmt: skip


async def test_a_lane_is_worked_at_where_its_device_or_connection_is(tmp_path: Path) -> None:
    device = tmp_path / "ttyUSB0"
    device.touch()
    work = Work()
    here = Here(lambda meter_id: meter_id == 7, work)
    there = f"line:modbus+rtu://{device}"
    for lane in ("inbound:7", "inbound:8", there, f"{there}1", "lot:3", there, "inbound:7"):
        here.ring(lane)
    await asyncio.sleep(0)
    assert sorted(work.lanes) == ["inbound:7", there]
    work.go_on.set()
    await here.close(1)
    here.ring(there)
    await asyncio.sleep(0)
    assert len(work.lanes) == 2


async def test_what_does_not_end_in_time_is_cancelled() -> None:
    work = Work()
    here = Here(lambda meter_id: True, work)
    here.ring("inbound:1")
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await here.close(0)
    assert work.lanes == ["inbound:1"]
