"""DL/T 645, IEC 62056-21 and P1 under the contract suite, against peers that say what real meters said."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial

from headend.drivers.dlt645.driver import Dlt645Driver
from headend.drivers.iec62056_21.driver import Iec62056Driver
from headend.drivers.line_driver import LineDriver, LineTiming
from headend.drivers.p1.driver import P1Driver
from tests.contract.subjects import CurveCase, Subject, meter
from tests.integration.line_peers import (
    SETS,
    Meter645,
    Readout,
    captured_telegram,
    serving_line,
    serving_tcp,
)

START, END = datetime(2026, 3, 2, 11, tzinfo=UTC), datetime(2026, 3, 2, 13, tzinfo=UTC)
NOW = datetime(2026, 3, 2, 12, 0, 7, tzinfo=UTC)
QUICK = LineTiming(connect_s=5.0, answer_s=0.3, quiet_s=0.01)
ENERGY = {"00-01-00-00": "78563412", "00-02-00-00": "01000000", "00-01-FF-00": "7856341200000001"}
Answer = Callable[[bytes], bytes]


def _dlt645() -> Answer:
    return Meter645({name: bytes.fromhex(data) for name, data in ENERGY.items()})


def _readout() -> Answer:
    return Readout(b"/ABC5Meter\r\n", SETS)


def _telegram() -> Answer:
    return lambda received: b"" if received else captured_telegram("telegram_v5")


@asynccontextmanager
async def subject(
    kind: type[LineDriver],
    scheme: str,
    model: str,
    peer: Callable[[], Answer],
    values: Mapping[str, Decimal | str],
    row: Mapping[str, Decimal],
) -> AsyncIterator[Subject]:
    query = "?meter=000000000001" if scheme.startswith("dlt645") else ""
    serial = scheme.endswith("+serial")
    query += "&parity=N" if serial and query else ""  # no pty has parity

    async with AsyncExitStack() as stack:

        async def place(answer: Answer) -> str:
            again_s = 0.02 if kind is P1Driver else None  # telegrams come one after another
            serving = serving_line(answer) if serial else serving_tcp(answer, again_s=again_s)
            where = await stack.enter_async_context(serving)
            return f"{scheme}://{where}{query}"

        address = await place(peer())
        moment = [NOW]
        driver = kind(timing=QUICK, now=lambda: moment[0])

        def set_now(now: datetime) -> None:
            moment[0] = now

        yield Subject(
            driver,
            meter(1, model, address),
            values,
            absent="1-0:99.99.99*255",
            silent=meter(2, model, await place(lambda received: b"")),
            closed=meter(3, model, f"{scheme}://{'/dev/no-such-line' if serial else '127.0.0.1:1'}{query}"),
            garbage=meter(4, model, await place(lambda received: b"HTTP/1.1 400 Bad Request\r\n\r\n")),
            impossible=[
                meter(5, model, "tcp://127.0.0.1:4059"),
                meter(6, model, None),
                meter(7, "no-such-model", address),
            ],
            curve=CurveCase(1, START, END, {datetime(2026, 3, 2, 11, 45, tzinfo=UTC): row}, now=NOW),
            set_now=set_now,
        )


_DLT = ({"1-0:1.8.0*255": Decimal(123456780), "1-0:1.8.1*255": Decimal(10000000)}, {
    "active_import": Decimal(123456780), "active_export": Decimal(10),
})  # fmt: skip
_IEC = ({"1-0:1.8.0*255": Decimal(1234567), "1-0:32.7.0*255": Decimal("229.9"),
         "1-0:0.0.0*255": "00012345"}, {
    "active_import": Decimal(1234567), "active_export": Decimal(1),
})  # fmt: skip
_P1 = ({"1-0:1.8.1*255": Decimal(4426), "1-0:32.7.0*255": Decimal("230.0")}, {
    "active_import": Decimal(4426 + 2399), "active_export": Decimal(2444),
})  # fmt: skip
SUBJECTS = {
    scheme: partial(subject, kind, scheme, model, peer, *expected)
    for scheme, kind, model, peer, expected in (
        ("dlt645+tcp", Dlt645Driver, "dlt645-2007", _dlt645, _DLT),
        ("dlt645+serial", Dlt645Driver, "dlt645-2007", _dlt645, _DLT),
        ("iec62056+tcp", Iec62056Driver, "iec62056-21", _readout, _IEC),
        ("p1+tcp", P1Driver, "p1-dsmr", _telegram, _P1),
    )
}
