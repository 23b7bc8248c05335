"""Modbus under the contract suite: an SDM120 of pymodbus' server, on TCP, RTU over TCP, and a serial line."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial

from pymodbus import FramerType

from headend.drivers.modbus.driver import ModbusDriver, Timing
from schemas.register_model import load_register_model
from tests.contract.subjects import CurveCase, Subject, meter
from tests.integration.modbus_peers import Rogue, image, port_of, serving_line, serving_tcp, slave

MODEL = "eastron-sdm120"
HELD = {
    "voltage": Decimal("230.2"),
    "power_active": Decimal("-1234.5"),
    "import_energy_active": Decimal(1234567),  # 1234.567 kWh
    "export_energy_active": Decimal(0),
    "frequency": Decimal("49.98"),
}
VALUES = {
    "1-0:32.7.0*255": Decimal("230.2"),
    "1-0:16.7.0*255": Decimal("-1234.5"),
    "1-0:1.8.0*255": Decimal(1234567),
    "1-0:2.8.0*255": Decimal(0),
    "1-0:14.7.0*255": Decimal("49.98"),
}
START, END = datetime(2026, 3, 2, 11, tzinfo=UTC), datetime(2026, 3, 2, 13, tzinfo=UTC)
CURVE = CurveCase(
    1, START, END,
    {datetime(2026, 3, 2, 11, 45, tzinfo=UTC): {
        "active_import": Decimal(1234567), "active_export": Decimal(0), "reactive_import": Decimal(0),
        "reactive_export": Decimal(0),
    }},
    now=datetime(2026, 3, 2, 12, 0, 7, tzinfo=UTC),
)  # fmt: skip


@asynccontextmanager
async def subject(scheme: str) -> AsyncIterator[Subject]:
    device = slave(7, image(load_register_model(MODEL), HELD))
    is_rtu = scheme != "modbus+tcp"
    rubbish = Rogue(lambda request, send: send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), is_rtu=is_rtu)
    async with AsyncExitStack() as stack:
        if scheme == "modbus+rtu":
            place = await stack.enter_async_context(serving_line(device))
            nonsense, nobody = await stack.enter_async_context(rubbish.serving_line()), "/dev/no-such-line"
        else:
            framer = FramerType.RTU if is_rtu else FramerType.SOCKET
            server = await stack.enter_async_context(serving_tcp(device, framer=framer))
            place = f"127.0.0.1:{port_of(server)}"
            nonsense = f"127.0.0.1:{await stack.enter_async_context(rubbish.serving_tcp())}"
            async with serving_tcp(device) as gone:
                nobody = f"127.0.0.1:{port_of(gone)}"
        moment = [CURVE.now or START]
        driver = ModbusDriver(timing=Timing(connect_s=5.0), now=lambda: moment[0])
        stack.callback(driver.close)
        target = meter(1, MODEL, f"{scheme}://{place}?unit=7")

        def set_now(now: datetime) -> None:
            moment[0] = now

        yield Subject(
            driver,
            target,
            VALUES,
            absent="1-0:99.99.99*255",
            silent=meter(2, MODEL, f"{scheme}://{place}?unit=9"),
            closed=meter(3, MODEL, f"{scheme}://{nobody}?unit=7"),
            garbage=meter(4, MODEL, f"{scheme}://{nonsense}?unit=7"),
            impossible=[
                meter(5, MODEL, "tcp://127.0.0.1:4059"),
                meter(6, MODEL, None),
                meter(7, MODEL, f"{scheme}://{place}"),
                meter(8, MODEL, f"{scheme}://{place}?unit=0"),
                meter(9, "no-such-model", f"{scheme}://{place}?unit=7"),
            ],
            curve=CURVE,
            set_now=set_now,
        )


SUBJECTS = {scheme: partial(subject, scheme) for scheme in ("modbus+tcp", "modbus+rtu+tcp", "modbus+rtu")}
