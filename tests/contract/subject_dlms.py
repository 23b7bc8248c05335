"""DLMS under the contract suite: a simulated meter over TCP, with and without HDLC. What gurux-dlms says of
the same driver is in ``tests/interop``."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from concentrator_sim.field import Field
from concentrator_sim.generator import quarter_of
from concentrator_sim.scenario import make_scenario
from headend.drivers.dlms.driver import DlmsDriver
from headend.session.access import Access
from headend.session.deadlines import Deadlines
from schemas.reading import INTERVAL_QUANTITIES
from tests.contract.subjects import CurveCase, Subject, meter
from tests.integration.line_peers import serving_tcp

NAME = "0-0:42.0.0*255"
START = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=2)


class _NoCounters:
    """Plain meters take none."""

    async def prepare(self, keys: Any, *, at_least: int) -> None:
        assert not keys

    async def catch_up(self, keys: Any) -> None:
        assert not keys


def _no_database() -> Any:
    raise AssertionError("plain meters need no database")


@asynccontextmanager
async def subject(framing: str) -> AsyncIterator[Subject]:
    scenario = make_scenario({"meters": 1, "base_port": 0, "security": "none", "framing": framing})
    async with AsyncExitStack() as stack:
        field = await stack.enter_async_context(Field(scenario))
        (item,) = field.meters
        model, _, address = next(
            (row["model"], row["asset_id"], row["address"]) for row in _rows(field.csv())
        )
        scheme = address.partition("://")[0]
        query = address.partition("?")[2]
        silent = await stack.enter_async_context(serving_tcp(lambda received: b""))
        rubbish = await stack.enter_async_context(
            serving_tcp(lambda received: b"HTTP/1.1 400 Bad Request\r\n\r\n" if received else b"")
        )
        access = Access(
            _no_database,
            None,
            _NoCounters(),  # type: ignore[arg-type]
            system_title=bytes.fromhex("4845440000000001"),
            deadlines=Deadlines(connect_s=5.0, release_s=1.0),
        )
        columns = item.meter.consumption.quarters(range(4), quarter_of(int(START.timestamp())) + 1, 4)
        rows = {
            START + n * timedelta(minutes=15): {
                name: Decimal(int(column[n]))
                for name, column in zip(INTERVAL_QUANTITIES, columns, strict=True)
            }
            for n in range(4)
        }
        yield Subject(
            DlmsDriver(access),
            meter(1, model, address),
            {NAME: item.meter.name},
            absent="1-0:99.99.99*255",
            silent=meter(2, model, f"{scheme}://{silent}?{query}"),
            closed=meter(3, model, f"{scheme}://127.0.0.1:1?{query}"),
            garbage=meter(4, model, f"{scheme}://{rubbish}?{query}"),
            impossible=[
                meter(5, model, None),
                meter(6, "no-such-model", address),
                meter(7, "headend-sim-hls5", address),  # its keys are not stored
            ],
            curve=CurveCase(1, START, START + timedelta(hours=1), rows),
            push_models=("kaifa-ma304",),
        )
        await asyncio.sleep(0)


def _rows(text: str) -> list[dict[str, str]]:

    return list(csv.DictReader(io.StringIO(text)))


SUBJECTS = {f"dlms {framing}": partial(subject, framing) for framing in ("wrapper", "hdlc")}
