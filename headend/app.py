"""The composition root: everything the service is made of, opened in order and closed in reverse.

::

    database ─> keys, counters ─> ingest pipeline ─> access to meters ─> collector ─> API
        (migrated)                                                          │
                                       first collection, then again every read_period_s;
                                       meters that keep no load curve are sampled around each boundary;
                                       event logs are read every events_period_s

Ctrl-C (or SIGTERM) closes from the right: the API answers what it is at, sessions are aborted, what was read
is committed, counters are stored, the database stops. A second one gives up what is waited for. Every task
has a name and is watched: one that ends by itself stops the service and says which it was.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any, Final, Protocol

import api.errors
from api.app import create_app
from api.services import ReadRequest, ReadResult, Refused, Services
from headend.clock import utc_now
from headend.collect.outcome import Outcome
from headend.collect.periodic import periodically
from headend.collect.probing import probing
from headend.demo import Demo, Demonstration, demo_settings, demonstration
from headend.demo_broker import demo_broker
from headend.drivers.read_now import CurveRange, UnknownProfileError, read_now
from headend.foundation import Base, make_demo_master_key, open_base
from headend.house import House, open_house
from headend.listen.inbound import InboundListener
from headend.listen.push import PushListener
from headend.serving import LAST_ANSWERS_S, AddressInUse, Server, listen, make_server, url_of
from headend.store.errors import UnavailableError
from headend.store.network import Delivered, delivered
from headend.store.pool import Pool
from schemas.config import Settings
from schemas.meter import Meter

log = logging.getLogger(__name__)

#: A task that was asked to end is asked again after so many seconds.
_ASK_AGAIN_S: Final = 15.0
#: How often it is looked what a demonstration's links have delivered, in seconds.
_LOOK_S: Final = 5.0


class ServiceError(Exception):
    """The service cannot start or go on; the message says why."""


class View(Protocol):
    """What the service tells whoever started it."""

    def opened(self, base: Base) -> None:
        """The database is there."""

    def demonstrating(self, shown: Demonstration) -> None:
        """The simulated field runs and its meters are stored."""

    def listening(self, what: str, where: str) -> None:
        """A listener is open there."""

    def serving(self, url: str) -> None:
        """The API answers there."""

    def collecting(self, outcome: Outcome) -> None:
        """The first collection goes on; called after each meter."""

    async def collected(self, outcome: Outcome, pool: Pool) -> None:
        """The first collection has ended."""

    def delivered(self, rows: Sequence[Delivered], *, is_all: bool) -> None:
        """What came over each kind of link of the demonstration; ``is_all``: something over each."""

    def round(self, outcome: Outcome) -> None:
        """A periodic collection has ended."""

    def stopping(self) -> None:
        """The end was asked for."""


async def run(settings: Settings, view: View, *, demo: Demo | None = None) -> None:
    """Run the service until SIGINT or SIGTERM.

    With ``demo`` the simulated field is started and imported first. Raises ServiceError where a part ends by
    itself, and whatever keeps a part from starting.
    """
    with _signals() as stop:
        async with AsyncExitStack() as stack:
            try:
                listener = listen(settings.api_host, settings.api_port)
            except AddressInUse as error:
                raise ServiceError(str(error)) from error
            stack.callback(listener.close)
            if demo is not None:
                make_demo_master_key(settings)
                if settings.mqtt_url is None:
                    settings = demo_settings(settings, await stack.enter_async_context(demo_broker()))
            base = await stack.enter_async_context(open_base(settings, share=False))
            view.opened(base)
            tasks = _Tasks()
            if demo is not None:
                shown = await stack.enter_async_context(demonstration(demo, base))
                tasks.start("simulated field", shown.ended())
                view.demonstrating(shown)
            house = await stack.enter_async_context(open_house(base))
            tasks.add(house.pipeline.task)
            tasks.add(house.access.task)
            tasks.add(house.keeper.task)
            await stack.enter_async_context(_listening(house, view))
            if settings.mqtt_url is not None:
                ingesting = tasks.start("MQTT ingest", house.mqtt_worker().run())
                stack.push_async_callback(_cancelled, ingesting)
                view.listening("MQTT", settings.mqtt_url)
            server = _server(house)
            serving = tasks.start("API", server.serve([listener]))
            stack.push_async_callback(_end_api, server, serving)
            sampling = tasks.start("sampler", house.sampler.run())
            stack.push_async_callback(_cancelled, sampling)
            collected = asyncio.Event()
            collecting = tasks.start("collector", _collect(house, view, url_of(listener), collected))
            stack.push_async_callback(_cancelled, collecting)
            if settings.read_period_s != 0:
                prober = probing(house.prober, house.links.breakers, days=settings.read_days)
                stack.push_async_callback(_cancelled, tasks.start("prober", prober))
            rounds = tasks.start("concentrator rounds", _read_stations(house))
            stack.push_async_callback(_cancelled, rounds)
            reading_events = tasks.start("event rounds", _read_events(house, collected))
            stack.push_async_callback(_cancelled, reading_events)
            if demo is not None and demo.meters is None:
                showing = tasks.start("deliveries", _show_deliveries(house, view, collected))
                stack.push_async_callback(_cancelled, showing)
            try:
                await tasks.first_end(stop)
            finally:
                view.stopping()


async def ingest(settings: Settings, reading: Callable[[str], None]) -> None:
    """Read the broker's slots, beside any number of other processes, until SIGINT or SIGTERM.

    ``reading`` is told the broker when it begins. Raises ServiceError where the settings name no broker, and
    as `run`.
    """
    if settings.mqtt_url is None:
        raise ServiceError("no broker is set: HEADEND_MQTT_URL names one, as in mqtt://127.0.0.1:1883")
    with _signals() as stop:
        async with AsyncExitStack() as stack:
            base = await stack.enter_async_context(open_base(settings))
            house = await stack.enter_async_context(open_house(base))
            tasks = _Tasks()
            tasks.add(house.pipeline.task)
            ingesting = tasks.start("MQTT ingest", house.mqtt_worker().run())
            stack.push_async_callback(_cancelled, ingesting)
            reading(settings.mqtt_url)
            gc.freeze()  # what is there now stays: the collector need not look at it with every bunch
            await tasks.first_end(stop)


@asynccontextmanager
async def _listening(house: House, view: View) -> AsyncIterator[None]:
    """The listeners that the settings ask for. Raises ServiceError where an address cannot be had."""
    settings, connect = house.base.settings, house.base.pool.connection
    push = PushListener(
        settings, connect, house.vault, house.pipeline, directory=house.directory, handler=house.handler
    )
    inbound = InboundListener(settings, house.access, house.directory, house.handler)
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(push)
            await stack.enter_async_context(inbound)
        except OSError as error:
            raise ServiceError(f"a listener cannot listen: {error}") from error
        for what, where in (
            ("pushes over TCP", settings.listen_push_tcp),
            ("pushes over UDP", settings.listen_push_udp),
            ("meters that dial in", settings.listen_inbound),
        ):
            if where is not None:
                view.listening(what, where)
        yield


async def _collect(house: House, view: View, url: str, collected: asyncio.Event) -> None:
    """The first collection, then one after another; without a period, only the first."""
    settings = house.base.settings
    view.serving(url)
    until = utc_now()
    since = until - timedelta(days=settings.read_days)
    outcome = await house.collector.collect(since, until, on_progress=view.collecting)
    await view.collected(outcome, house.base.pool)
    collected.set()
    if settings.read_period_s == 0:
        await asyncio.Event().wait()
    await periodically(
        house.collector, days=settings.read_days, period_s=settings.read_period_s, on_round=view.round
    )


async def _show_deliveries(house: House, view: View, collected: asyncio.Event) -> None:
    """Tell of a demonstration what has come over each kind of link: behind the first collection, and when
    something has come over all of them. A database that is away is looked into later."""
    await collected.wait()
    is_all = shown = False
    since = utc_now() - timedelta(days=house.base.settings.read_days + 1)
    while not is_all:
        with contextlib.suppress(UnavailableError):
            async with house.base.pool.connection() as connection:
                rows = await delivered(connection, since)
            is_all = all(row.delivering for row in rows)
            if is_all or not shown:
                view.delivered(rows, is_all=is_all)
                shown = True
        await asyncio.sleep(_LOOK_S)
    await asyncio.Event().wait()


async def _read_stations(house: House) -> None:
    """Rounds of the concentrators that store and forward; without a period, none."""
    period_s = house.base.settings.stations_period_s
    if period_s == 0:
        await asyncio.Event().wait()
    await house.stations.run(period_s)


async def _read_events(house: House, collected: asyncio.Event) -> None:
    """Rounds of event logs, once the first collection is through; without a period, none."""
    period_s = house.base.settings.events_period_s
    if period_s == 0:
        await asyncio.Event().wait()
    await collected.wait()
    await house.events.run(period_s)


class _ReadNow:
    """The API's port for reading a meter now, over the house."""

    def __init__(self, house: House) -> None:
        self._house = house

    async def __call__(self, meter: Meter, request: ReadRequest) -> ReadResult:
        house, wanted = self._house, request.profile
        curve = None if wanted is None else CurveRange(wanted.profile, wanted.start, wanted.end)
        try:
            done = await read_now(
                house.drivers,
                house.links,
                house.write,
                await house.target(meter),
                obis=request.obis,
                curve=curve,
            )
        except UnknownProfileError as error:
            raise api.errors.BadValue.field("/profile/number", str(error)) from error
        refused = tuple(Refused(one.obis, one.reason) for one in done.refused)
        return ReadResult(done.registers, refused, done.intervals, done.stored)


# ---- the API --------------------------------------------------------------------------------------------


def _server(house: House) -> Server:
    app = create_app(
        Services(
            house.base.pool,
            _ReadNow(house),
            house.replay,
            profile_folders=house.base.settings.profile_folders,
            metrics=house.metrics.text,
            metrics_public=house.base.settings.metrics_public,
        )
    )
    return make_server(app)


async def _end_api(server: Server, serving: "asyncio.Task[None]") -> None:
    """Let open requests be answered, for a while; then end."""
    server.should_exit = True
    done, _ = await asyncio.wait([serving], timeout=2 * LAST_ANSWERS_S)
    if not done:
        await _cancelled(serving)


# ---- tasks and signals ----------------------------------------------------------------------------------


async def _cancelled(task: "asyncio.Task[None]") -> None:
    """End a task. Asked again while it goes on: `asyncio.wait_for`, which libraries wait with, may lose a
    cancellation that comes together with what it waits for (before Python 3.12)."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_ASK_AGAIN_S)


class _Stop(asyncio.Event):
    """That somebody asked for the end. ``is_awaited``: the service is up and waits for it."""

    is_awaited = False


class _Tasks:
    """Named tasks, none of which may end by itself."""

    def __init__(self) -> None:
        self._all: list[asyncio.Task[None]] = []

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Start and watch."""
        task = asyncio.create_task(work, name=name)
        self._all.append(task)
        return task

    def add(self, task: "asyncio.Task[None]") -> None:
        """Watch what somebody else started and ends."""
        self._all.append(task)

    async def first_end(self, stop: _Stop) -> None:
        """Wait for ``stop``. Raises ServiceError, caused by its error, where a task ends before."""
        stop.is_awaited = True
        asked = asyncio.create_task(stop.wait(), name="stop")
        try:
            done, _ = await asyncio.wait([asked, *self._all], return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
        for task in done - {asked}:
            error = None if task.cancelled() else task.exception()
            if error is not None:
                raise ServiceError(f"the {task.get_name()} failed: {error}") from error
            raise ServiceError(f"the {task.get_name()} ended by itself")


@contextlib.contextmanager
def _signals() -> Iterator[_Stop]:
    """An event that SIGINT and SIGTERM set; before it is waited for they cancel, as a second one does. The
    third ends the process."""
    loop = asyncio.get_running_loop()
    main = asyncio.current_task()
    stop = _Stop()
    received = 0

    def on_signal(number: int) -> None:
        nonlocal received
        received += 1
        if received == 1 and stop.is_awaited:
            stop.set()
        elif received <= 2 and main is not None:
            main.cancel()
        else:
            os._exit(128 + number)  # the embedded database is found and stopped by the next start

    caught = (signal.SIGINT, signal.SIGTERM)
    for number in caught:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield stop
    finally:
        for number in caught:
            loop.remove_signal_handler(number)
