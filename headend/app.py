"""The composition root: everything the service is made of, opened in order and closed in reverse.

::

    database ─> keys, counters ─> ingest pipeline ─> access to meters ─> lanes ─> API
        (migrated)                                                         │
                                        jobs of schedules (those of the house: load curves, concentrators,
                                        event logs); meters that keep no load curve are sampled around
                                        each boundary

Ctrl-C (or SIGTERM) closes from the right: the API answers what it is at, sessions are aborted, what was read
is committed, counters are stored, the database stops. A second one gives up what is waited for. Every task
has a name and is watched: one that ends by itself stops the service and says which it was.

`run` has everything in one process. `serve` is the API by itself; the other parts, which run apart on any
number of hosts over one database, are `headend.parts`.
"""

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Final, Protocol

from api.app import create_app
from api.limits import Limits
from api.services import Services
from headend.approvals.policy import Policy
from headend.clock import utc_now
from headend.demo import Demo, Demonstration, demo_settings, demonstration
from headend.demo_broker import demo_broker
from headend.foundation import Base, make_demo_master_key, open_base, sealer_if_any
from headend.house import House, open_house, procedures_of
from headend.intake import keyless_replay
from headend.jobs.by_hand import Outcome
from headend.moment.moment import Moment
from headend.mqtt.replay import Replay
from headend.observe.backlog import Watch
from headend.observe.metrics import Metrics
from headend.parts import Tell, dial_ins, present, pushes, scheduling, working
from headend.people.login import People
from headend.people.oidc import Provider
from headend.processes.memory import settle
from headend.processes.presence import this_process
from headend.processes.signals import signals
from headend.processes.tasks import ServiceError, Tasks, cancelled
from headend.schedules.builtin import CURVES, EVENTS, STATIONS
from headend.schedules.planner import Planned, run_now
from headend.serving import LAST_ANSWERS_S, AddressInUse, Server, listen, make_server, url_of
from headend.store.errors import UnavailableError
from headend.store.key_status import KeyPolicy
from headend.store.network import Delivered, delivered
from headend.store.pool import Pool
from headend.store.workers import Kind
from schemas.config import Settings

#: How often it is looked what a demonstration's links have delivered, in seconds.
_LOOK_S: Final = 5.0


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
        """The first collection goes on."""

    async def collected(self, outcome: Outcome, pool: Pool) -> None:
        """The first collection has ended."""

    def delivered(self, rows: Sequence[Delivered], *, is_all: bool) -> None:
        """What came over each kind of link of the demonstration; ``is_all``: something over each."""

    def stopping(self) -> None:
        """The end was asked for."""


async def run(settings: Settings, view: View, *, demo: Demo | None = None) -> None:
    """Run the service until SIGINT or SIGTERM.

    With ``demo`` the simulated field is started and imported first. Raises ServiceError where a part ends by
    itself, and whatever keeps a part from starting.
    """
    with signals() as stop:
        async with AsyncExitStack() as stack:
            listener = _listener(settings)
            stack.callback(listener.close)
            if demo is not None:
                make_demo_master_key(settings)
                if settings.mqtt_url is None:
                    settings = demo_settings(settings, await stack.enter_async_context(demo_broker()))
            base = await stack.enter_async_context(open_base(settings, share=False))
            view.opened(base)
            tasks = Tasks()
            if demo is not None:
                shown = await stack.enter_async_context(demonstration(demo, base))
                tasks.start("simulated field", shown.ended())
                view.demonstrating(shown)
            me = this_process(Kind.RUN, settings.collector_concurrency)
            await present(stack, tasks, base, me)
            house = await stack.enter_async_context(open_house(base))
            tasks.add(house.pipeline.task)
            tasks.add(house.access.task)
            tasks.add(house.keeper.task)
            await stack.enter_async_context(pushes(house, view.listening))
            inbound = await stack.enter_async_context(dial_ins(house, view.listening))
            if settings.mqtt_url is not None:
                ingesting = tasks.start("MQTT ingest", house.mqtt_worker().run())
                stack.push_async_callback(cancelled, ingesting)
                view.listening("MQTT", settings.mqtt_url)
            moment = _moment(stack, tasks, base)
            _serving(stack, tasks, listener, base, moment, house.replay, house.metrics)
            await working(stack, tasks, house, inbound, me.worker)
            await scheduling(stack, tasks, base)
            collected = asyncio.Event()
            collecting = tasks.start("first collection", _collect(house, view, url_of(listener), collected))
            stack.push_async_callback(cancelled, collecting)
            if demo is not None and demo.meters is None:
                showing = tasks.start("deliveries", _show_deliveries(house, view, collected))
                stack.push_async_callback(cancelled, showing)
            settle()
            try:
                await tasks.first_end(stop)
            finally:
                view.stopping()


async def serve(settings: Settings, tell: Tell) -> None:
    """The API by itself, until SIGINT or SIGTERM: it dials nobody and opens no key.

    Raises ServiceError where its address cannot be had, and as `run`.
    """
    with signals() as stop:
        async with AsyncExitStack() as stack:
            listener = _listener(settings)
            stack.callback(listener.close)
            base = await stack.enter_async_context(open_base(settings))
            tell("database", base.where)
            tasks = Tasks()
            await present(stack, tasks, base, this_process(Kind.API))
            moment = _moment(stack, tasks, base)
            _serving(stack, tasks, listener, base, moment, keyless_replay(base), Metrics())
            tell("API", url_of(listener))
            await tasks.first_end(stop)


async def _collect(house: House, view: View, url: str, collected: asyncio.Event) -> None:
    """What the schedules of the house read, once at the start, the load curves followed on the way."""
    view.serving(url)
    settings = house.base.settings
    first = await _run_now(house, CURVES)
    for name, period_s in ((STATIONS, settings.stations_period_s), (EVENTS, settings.events_period_s)):
        if period_s > 0:
            await _run_now(house, name)
    outcome = await house.following("start").follow(first.job_id, view.collecting, leave=True)
    await view.collected(outcome, house.base.pool)
    collected.set()
    await asyncio.Event().wait()


async def _run_now(house: House, name: str) -> Planned:
    base = house.base
    async with base.pool.connection() as connection:
        return await run_now(
            connection,
            name,
            utc_now(),
            actor="start",
            correlation_id=f"start:{name}",
            folders=base.settings.profile_folders,
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


# ---- the API --------------------------------------------------------------------------------------------


def _listener(settings: Settings) -> socket.socket:
    try:
        return listen(settings.api_host, settings.api_port)
    except AddressInUse as error:
        raise ServiceError(str(error)) from error


def _serving(
    stack: AsyncExitStack,
    tasks: Tasks,
    listener: socket.socket,
    base: Base,
    moment: Moment,
    replay: Replay,
    metrics: Metrics,
) -> None:
    """Have the API served for as long as ``stack`` lasts, with the figures of all processes."""
    watching = tasks.start("figures", Watch(base.pool.connection, metrics).run())
    stack.push_async_callback(cancelled, watching)
    settings = base.settings
    app = create_app(
        Services(
            base.pool,
            moment,
            replay,
            profile_folders=settings.profile_folders,
            forwarded_s=settings.forwarded_within_s,
            firmware_keys=settings.firmware_keys,
            metrics=metrics.text,
            metrics_public=settings.metrics_public,
            people=People.of(settings, sealer_if_any(settings)),
            limits=Limits(settings.requests_per_s, settings.requests_at_once),
            keys=KeyPolicy.of(settings),
            procedures=procedures_of(base),
            policy=Policy.of(settings),
            oidc=Provider.of(settings),
        )
    )
    server = make_server(app)
    serving = tasks.start("API", server.serve([listener]))
    stack.push_async_callback(_end_api, server, serving, moment)


def _moment(stack: AsyncExitStack, tasks: Tasks, base: Base) -> Moment:
    """What reads on demand need, told of jobs as they change, for as long as ``stack`` lasts."""
    moment = Moment.of(base.pool, base.settings, sealer_if_any(base.settings), utc_now)
    stack.push_async_callback(cancelled, tasks.start("watch of jobs", moment.watch.run()))
    return moment


async def _end_api(server: Server, serving: "asyncio.Task[None]", moment: Moment) -> None:
    """End streams, which would go on for ever, and let open requests be answered for a while; then end."""
    moment.feeds.close()
    moment.campaigns.close()
    server.should_exit = True
    done, _ = await asyncio.wait([serving], timeout=2 * LAST_ANSWERS_S)
    if not done:
        await cancelled(serving)
