"""The parts of the service, put together: each a process of its own, or all of them in one (`headend.app`).

::

    work ── house ──> lanes, janitor, meters that dial in     schedule ── planner, each minute
    ingest ── intake ──> pushes, the broker's slots           supervise ── as many as a host has cores
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Final

from headend.approvals import four_eyes
from headend.audit.verify import seal
from headend.clock import utc_now
from headend.foundation import Base, database, open_base, sealer_if_any
from headend.house import House, completeness_rounds, open_house, procedures_of
from headend.intake import Intake, open_intake
from headend.jobs.janitor import tidying
from headend.jobs.retention import prune
from headend.jobs.tick import ticking
from headend.keys.due import Rotations
from headend.listen.connections import Connections
from headend.listen.inbound import InboundListener
from headend.moment.moment import deliveries
from headend.moment.telling import telling
from headend.processes.lifeline import Lifeline
from headend.processes.memory import settle
from headend.processes.presence import Presence, this_process
from headend.processes.signals import Stop, signals
from headend.processes.supervisor import Supervisor
from headend.processes.tasks import ServiceError, Tasks, cancelled
from headend.programs.campaigning import advance_all, campaigning
from headend.schedules.builtin import ensure_builtin
from headend.schedules.planner import plan_due
from headend.store.migrate import migrate
from headend.store.workers import Kind, Told
from schemas.config import Settings

#: What a process may take to end beyond its own deadlines, in seconds.
_BEYOND_S: Final = 15.0

#: Called with what is up in a process, and where.
Tell = Callable[[str, str], None]


async def work(settings: Settings, tell: Tell, *, line: Lifeline | None = None) -> None:
    """Read meters, beside any number of other processes, until SIGINT or SIGTERM, or until the parent at the
    other end of ``line`` is gone. Raises as `run`."""
    with signals() as stop:
        async with AsyncExitStack() as stack:
            if line is not None:
                await stack.enter_async_context(_tied_to(line, stop))
            base = await stack.enter_async_context(open_base(settings))
            tasks = Tasks()
            me = this_process(Kind.WORKER, settings.collector_concurrency)
            await present(stack, tasks, base, me)
            house = await stack.enter_async_context(open_house(base))
            for task in (house.pipeline.task, house.access.task, house.keeper.task):
                tasks.add(task)
            inbound = await stack.enter_async_context(dial_ins(house, tell, shared=line is not None))
            await working(stack, tasks, house, inbound, me.worker)
            tell("worker", me.worker)
            settle()
            if line is not None:
                await line.up()
            await tasks.first_end(stop)


async def schedule(settings: Settings, tell: Tell) -> None:
    """Make jobs of schedules, take campaigns on and tell ends of jobs, each once beside any number of other
    processes, until SIGINT or SIGTERM. Raises as `run`."""
    with signals() as stop:
        async with AsyncExitStack() as stack:
            base = await stack.enter_async_context(open_base(settings))
            tasks = Tasks()
            me = this_process(Kind.SCHEDULER)
            await present(stack, tasks, base, me)
            await scheduling(stack, tasks, base)
            tell("scheduler", me.worker)
            await tasks.first_end(stop)


async def ingest(settings: Settings, tell: Tell) -> None:
    """Take what comes by itself, beside any number of other processes, until SIGINT or SIGTERM: pushes where
    the settings listen for them, and the broker's slots.

    Raises ServiceError where the settings name neither, and as `run`.
    """
    if not (settings.mqtt_url or settings.listen_push_tcp or settings.listen_push_udp):
        raise ServiceError(
            "nothing to take in: no broker is set (HEADEND_MQTT_URL, as in mqtt://127.0.0.1:1883) and no "
            "listener (HEADEND_LISTEN_PUSH_TCP, HEADEND_LISTEN_PUSH_UDP)"
        )
    with signals() as stop:
        async with AsyncExitStack() as stack:
            base = await stack.enter_async_context(open_base(settings))
            tasks = Tasks()
            await present(stack, tasks, base, this_process(Kind.INGEST))
            intake = await stack.enter_async_context(open_intake(base))
            tasks.add(intake.pipeline.task)
            await stack.enter_async_context(pushes(intake, tell))
            if settings.mqtt_url is not None:
                ingesting = tasks.start("MQTT ingest", intake.mqtt_worker().run())
                stack.push_async_callback(cancelled, ingesting)
                tell("MQTT", settings.mqtt_url)
            settle()
            await tasks.first_end(stop)


async def supervise(settings: Settings, command: Sequence[str], count: int, tell: Tell) -> None:
    """Keep ``count`` processes of ``command`` until SIGINT or SIGTERM, over a database that is there and
    migrated before them. Raises as `run`."""
    with signals() as stop:
        async with database(settings) as dsn:
            await asyncio.to_thread(migrate, dsn)
            # what a child itself waits for at its end, and then some
            patience_s = 2 * settings.shutdown_timeout_s + _BEYOND_S
            children = Supervisor(
                command,
                count,
                stop_s=patience_s,
                on_up=lambda number, pid: tell(f"{number} of {count}", f"{pid}"),
            )
            await children.run(stop)


async def present(stack: AsyncExitStack, tasks: Tasks, base: Base, me: Told) -> None:
    """Have this process seen for as long as ``stack`` lasts."""
    presence = await stack.enter_async_context(Presence(base.pool.connection, me))
    tasks.add(presence.task)


async def working(
    stack: AsyncExitStack, tasks: Tasks, house: House, inbound: InboundListener, name: str
) -> None:
    """Have lanes worked at, and look after those that nobody holds, for as long as ``stack`` lasts; sample
    what keeps no load curve. At its end what is under way is committed, and lanes are given back."""
    base = house.base
    crew = await stack.enter_async_context(house.at_work(name))
    for task in crew.tasks:
        tasks.add(task)
    connected = await stack.enter_async_context(Connections(base.pool, inbound.meters, name, crew.ring))
    for task in connected.tasks:
        tasks.add(task)
    drain_s = base.settings.shutdown_timeout_s
    working = tasks.start("queue", crew.run(drain_s=drain_s))
    stack.push_async_callback(_drained, working, drain_s)
    sampling = tasks.start("sampler", house.sampler(crew).run())
    stack.push_async_callback(cancelled, sampling)
    tidying_up = tasks.start("janitor", tidying(base.pool.connection))
    stack.push_async_callback(cancelled, tidying_up)


async def scheduling(stack: AsyncExitStack, tasks: Tasks, base: Base) -> None:
    """Have schedules become jobs, campaigns go on, ends of jobs told, and what is missing asked for again, as
    long as ``stack`` lasts; the schedules of the settings are there then."""
    async with base.pool.connection() as connection:
        await ensure_builtin(connection, base.settings, utc_now())

    rotations = Rotations(base, procedures_of(base))

    async def tick(now: datetime) -> None:
        async with base.pool.connection() as connection:
            await plan_due(connection, now, folders=base.settings.profile_folders)
        async with base.pool.connection() as connection:
            await four_eyes.expire(connection, now)
        await advance_all(base.pool.connection, now)
        await rotations.tick(now)
        vault = await base.vault_if_any()
        if vault is not None:
            async with base.pool.connection() as connection:
                await seal(connection, vault.fingerprint)
        await prune(base.pool.connection, before=now - timedelta(days=base.settings.jobs_keep_days))

    drain_s = base.settings.shutdown_timeout_s
    ticks = tasks.start("schedules", ticking(base.pool, tick, drain_s=drain_s))
    stack.push_async_callback(_drained, ticks, drain_s)
    campaigns = tasks.start("campaigns", campaigning(base.pool))
    stack.push_async_callback(cancelled, campaigns)
    teller = deliveries(base.pool, base.settings, sealer_if_any(base.settings), utc_now)
    tells = tasks.start("webhooks", telling(base.pool, teller.deliver, drain_s=drain_s))
    stack.push_async_callback(_drained, tells, drain_s)
    period_s = base.settings.completeness_period_s
    if period_s > 0:
        keeping = tasks.start("completeness", completeness_rounds(base).run(period_s))
        stack.push_async_callback(cancelled, keeping)


@asynccontextmanager
async def pushes(intake: Intake, tell: Tell) -> AsyncIterator[None]:
    """The push listeners of the settings. Raises ServiceError where an address cannot be had."""
    settings = intake.base.settings
    async with AsyncExitStack() as stack:
        await _open_listener(stack, intake.push_listener())
        for what, where in (
            ("pushes over TCP", settings.listen_push_tcp),
            ("pushes over UDP", settings.listen_push_udp),
        ):
            if where is not None:
                tell(what, where)
        yield


@asynccontextmanager
async def dial_ins(house: House, tell: Tell, *, shared: bool = False) -> AsyncIterator[InboundListener]:
    """The listener for meters that dial in; ``shared`` with other processes of this host. Raises ServiceError
    where its address cannot be had."""
    settings = house.base.settings
    inbound = InboundListener(settings, house.access, house.directory, house.handler, shared=shared)
    async with AsyncExitStack() as stack:
        await _open_listener(stack, inbound)
        if settings.listen_inbound is not None:
            tell("meters that dial in", settings.listen_inbound)
        yield inbound


async def _drained(task: "asyncio.Task[None]", drain_s: float) -> None:
    """End a task that ends by itself within ``drain_s`` seconds once it is asked."""
    task.cancel()
    await asyncio.wait([task], timeout=drain_s + _BEYOND_S)
    await cancelled(task)


@asynccontextmanager
async def _tied_to(line: Lifeline, stop: Stop) -> AsyncIterator[None]:
    """Ask for the end when the parent is gone."""

    async def until_cut() -> None:
        await line.cut()
        stop.ask()

    task = asyncio.create_task(until_cut(), name="lifeline")
    try:
        yield
    finally:
        await cancelled(task)


async def _open_listener(stack: AsyncExitStack, listener: AbstractAsyncContextManager[Any]) -> None:
    try:
        await stack.enter_async_context(listener)
    except OSError as error:
        raise ServiceError(f"a listener cannot listen: {error}") from error
