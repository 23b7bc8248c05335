"""What a broker brings, to committed rows: our worker beside a bare paho consumer that only parses the JSON.

Each drains a persistent session that was filled before, so that it is the consumer who sets the pace: from
its connecting to its last message, which for ours is committed and acknowledged. ``python -m
headend.bench.mqtt`` is the process of both, asked as `headend.bench.worker` says.
"""

import asyncio
import gc
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import paho.mqtt.client as paho
import uvloop
from paho.mqtt.enums import CallbackAPIVersion

from headend.bench import store, worker
from headend.bench.processes import BenchError, Process
from headend.demo_broker import demo_broker
from headend.drivers.mqtt.message import load_decoder
from headend.drivers.mqtt.meters import Meters
from headend.mqtt.broker import Broker
from headend.mqtt.ingest import Ingest
from headend.mqtt.slots import Plan, Worker
from headend.store import meters
from headend.store.pool import Pool, open_pool
from schemas.meter import NewMeter

_T0: Final = 1_772_409_600  # 2026-03-02T00:00Z
_PLUGS: Final = 1_000
_CONCENTRATORS: Final = 50
_BEHIND: Final = 25  # meters of each concentrator
_LAYOUT: Final = [
    {"obis": f"1-0:{group}.8.0*255", "unit": unit}
    for group, unit in ((1, "Wh"), (2, "Wh"), (3, "varh"), (4, "varh"))
]
_WAIT_S: Final = 300.0
#: Where mosquitto is besides PATH.
_SBIN: Final = "/usr/sbin:/usr/local/sbin"


class Stream(NamedTuple):
    """Messages of one kind: where they are published, and the ``n``-th of them."""

    filter: str
    message: Callable[[int], tuple[str, str]]


def _tasmota(n: int) -> tuple[str, str]:
    turn, plug = divmod(n, _PLUGS)
    at = datetime.fromtimestamp(_T0 + 900 * turn + 420, UTC).strftime("%Y-%m-%dT%H:%M:%S+00:00")
    return f"tele/plug-{plug}/SENSOR", f'{{"Time":"{at}","ENERGY":{{"Total":{turn / 1000 + plug:.3f}}}}}'


def _batch(n: int) -> tuple[str, str]:
    sequence, concentrator = divmod(n, _CONCENTRATORS)
    stamp = _T0 + 900 * (sequence + 1)
    document = {
        "format": "headend.batch.1",
        "concentrator": f"dc{concentrator}",
        "run": "r",
        "sequence": sequence,
        "sent": stamp,
        "layouts": [_LAYOUT],
        "series": [
            {
                "meter": f"m-{_BEHIND * concentrator + meter}",
                "period_s": 900,
                "stamps": [stamp],
                "values": [[100_000 * meter + 1000 * column + sequence] for column in range(len(_LAYOUT))],
            }
            for meter in range(_BEHIND)
        ],
    }
    return f"headend/batch/dc{concentrator}", json.dumps(document, separators=(",", ":"))


#: A one-reading message, and a batch of 100 readings: a quarter-hour of 25 meters, four quantities of each.
STREAMS: Final = {
    "tasmota": Stream("tele/#", _tasmota),
    "batch": Stream("headend/batch/+", _batch),
}


_COMMAND: Final = [sys.executable, "-m", "headend.bench.mqtt"]


class Turn(NamedTuple):
    """Microseconds of the clock, and of the consumer's CPU, for each message."""

    wall_us: float
    cpu_us: float


@asynccontextmanager
async def _broker() -> AsyncIterator[tuple[int, str]]:
    """A broker of this run's own: its port, and which it is."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path=_SBIN)
    if found is None:
        async with demo_broker() as url:
            yield Broker(url).place[1], "iotcore"
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="headend-bench-") as folder:
        conf = Path(folder) / "mosquitto.conf"
        limits = "max_queued_messages 0\nmax_inflight_messages 4000\nallow_anonymous true\nlog_type error"
        await asyncio.to_thread(conf.write_text, f"listener {port} 127.0.0.1\n{limits}\n")
        process = await asyncio.create_subprocess_exec(found, "-c", str(conf), stderr=subprocess.DEVNULL)
        try:
            async with asyncio.timeout(10):
                while True:
                    with suppress(OSError):
                        socket.create_connection(("127.0.0.1", port), 0.2).close()
                        break
                    await asyncio.sleep(0.05)
            yield port, "mosquitto"
        finally:
            process.terminate()
            await process.wait()


@contextmanager
def _client(port: int, name: str, *, clean: bool) -> Iterator[paho.Client]:
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, clean_session=clean)
    client.max_inflight_messages_set(1_000)
    ready: list[bool] = []
    client.on_connect = lambda *_: ready.append(True)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        _until(lambda: bool(ready))
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


def _until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + _WAIT_S
    while not done():
        if time.monotonic() > end:
            raise BenchError("the broker does not answer")
        time.sleep(0.005)


def _fill(port: int, session: str, stream: Stream, first: int, count: int) -> None:
    """Messages that wait in a session."""
    with _client(port, session, clean=False) as client:
        granted: list[bool] = []
        client.on_subscribe = lambda *_: granted.append(True)
        client.subscribe(stream.filter, qos=1)
        _until(lambda: bool(granted))
    with _client(port, "field", clean=True) as client:
        sent = [client.publish(*stream.message(n), qos=1) for n in range(first, first + count)]
        for one in sent:
            one.wait_for_publish(_WAIT_S)


async def measure(kind: str, rounds: int, count: int) -> tuple[str, dict[str, list[Turn]]]:
    """Rounds of both in turns: the broker in words, and what each message took. Raises BenchError."""
    stream = STREAMS[kind]
    found: dict[str, list[Turn]] = {"bare": [], "ours": []}
    async with _broker() as (port, which), store.database() as (dsn, where):
        await _fleet(dsn)
        with Process("MQTT consumer", _COMMAND) as process:
            for number in range(rounds):
                for who in sorted(found, reverse=bool(number % 2)):
                    session = f"{who}{number}"
                    client = session if who == "bare" else f"{session}-0"
                    await asyncio.to_thread(_fill, port, client, stream, number * count, count)
                    answer = await asyncio.to_thread(
                        process.ask,
                        who,
                        port=port,
                        session=session,
                        filter=stream.filter,
                        count=count,
                        dsn=dsn,
                    )
                    found[who].append(Turn(answer["wall_us"], answer["cpu_us"]))
                    with _client(port, client, clean=True):
                        pass  # the session is gone
    return f"{which}, {where}", found


async def _fleet(dsn: str) -> None:
    new = [NewMeter(f"p-{n}", "tasmota", address=f"mqtt:plug-{n}") for n in range(_PLUGS)]
    new += [NewMeter(f"m-{n}", "headend-batch-meter") for n in range(_CONCENTRATORS * _BEHIND)]
    async with open_pool(dsn, max_size=1) as pool, pool.connection() as connection:
        await meters.add_many(connection, new, since=datetime(2026, 3, 1, tzinfo=UTC))


# ---- the consumers' process -----------------------------------------------------------------------------


def _bare(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Nothing but paho and json.loads."""
    left = request["count"]
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=request["session"], clean_session=False)

    def on_message(_client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        nonlocal left
        json.loads(message.payload)
        left -= 1
        if not left:
            client.disconnect()

    client.on_message = on_message
    wall, cpu = time.perf_counter(), time.process_time()
    client.connect("127.0.0.1", request["port"])
    client.loop_forever()
    return _turn(request, wall, cpu)


def _ours(request: Mapping[str, Any]) -> Mapping[str, Any]:
    return uvloop.run(_ingest(request))


async def _ingest(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """The product's worker, with one slot."""
    async with open_pool(request["dsn"], max_size=6) as pool:
        decoder = load_decoder(Meters())
        await _learn(pool, decoder.meters)
        ingest = Ingest(pool.connection, decoder)
        plan = Plan({"0": (request["filter"],)}, client_id=request["session"])
        broker = Broker(f"mqtt://127.0.0.1:{request['port']}")
        gc.freeze()
        wall, cpu = time.perf_counter(), time.process_time()
        task = asyncio.create_task(Worker(broker, pool.connection, ingest, plan).run())
        while ingest.totals.received < request["count"] and not task.done():  # noqa: ASYNC110 - a counter
            await asyncio.sleep(0.002)
        turn = _turn(request, wall, cpu)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        if ingest.totals.quarantined or ingest.totals.repeated or ingest.totals.ignored:
            raise BenchError(f"not everything was stored: {ingest.totals}")
    return turn


async def _learn(pool: Pool, known: Meters) -> None:
    names: Sequence[str] = [f"plug-{n}" for n in range(_PLUGS)]
    async with pool.connection() as connection:
        await known.learn(connection, [*names, *(f"m-{n}" for n in range(_CONCENTRATORS * _BEHIND))])


def _turn(request: Mapping[str, Any], wall: float, cpu: float) -> Mapping[str, Any]:
    scale = 1e6 / request["count"]
    return {
        "wall_us": scale * (time.perf_counter() - wall),
        "cpu_us": scale * (time.process_time() - cpu),
    }


if __name__ == "__main__":
    worker.serve({"bare": _bare, "ours": _ours})
