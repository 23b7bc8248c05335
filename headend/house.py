"""The parts between database and API, put together: for the service, and for commands that read meters."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from headend.collect.sampler import Sampler
from headend.completeness.rounds import GapPolicy, Rounds
from headend.drivers.contract import Driver, Feature, Target
from headend.drivers.dlms.driver import DlmsDriver
from headend.drivers.dlms.station import StationDriver
from headend.drivers.dlt645.driver import DialMqtt, Dlt645Driver
from headend.drivers.iec62056_21.driver import Iec62056Driver
from headend.drivers.modbus.driver import ModbusDriver, Timing
from headend.drivers.mqtt.driver import MqttDriver
from headend.drivers.p1.driver import P1Driver
from headend.drivers.registry import Drivers
from headend.drivers.targets import placed
from headend.foundation import Base
from headend.intake import Intake, open_intake
from headend.jobs.asked import Preparer
from headend.jobs.by_hand import ByHand
from headend.jobs.forwarding import Forwarding
from headend.jobs.lanes import LaneKeeper
from headend.jobs.queue import Queue
from headend.jobs.visit import Visitor
from headend.jobs.work import LaneWorker
from headend.keys.counters import CounterBlocks
from headend.keys.vault import Vault
from headend.links.breaker import Breakers, Policy
from headend.links.keeper import Keeper
from headend.links.limits import Limits as LinkLimits
from headend.links.links import Links
from headend.links.pace import Pace
from headend.mqtt.exchange import BrokerExchange
from headend.mqtt.gateway import GatewayLines
from headend.mqtt.settings import broker
from headend.observe.metrics import Metrics
from headend.parameters.allowed import dlms_model
from headend.parameters.procedure import ParametersProcedure
from headend.processes.presence import this_process
from headend.programs.applier import Applier
from headend.programs.clocks.procedure import ClockProcedure
from headend.programs.contract import Procedure
from headend.programs.firmware.packages import Packages
from headend.programs.firmware.procedure import FirmwareProcedure
from headend.programs.keys import KeysProcedure
from headend.programs.tariffs.history import StoredHistory
from headend.programs.tariffs.procedure import TariffProcedure
from headend.session.access import Access
from headend.session.deadlines import Deadlines
from headend.store import workers
from headend.store.queue import wake
from headend.store.workers import Kind
from headend.switching.limiting import LimitProcedure
from headend.switching.procedure import SwitchProcedure
from headend.switching.rules import Rules
from schemas.config import Settings
from schemas.job import Retry
from schemas.meter import Meter
from schemas.register_model import Sampling


@dataclass(frozen=True, slots=True)
class House(Intake):
    """What reads meters and stores what they give, beside what comes by itself."""

    access: Access
    drivers: Drivers
    links: Links
    keeper: Keeper
    forwarding: Forwarding
    procedures: tuple[Procedure, ...]

    @asynccontextmanager
    async def at_work(self, name: str) -> AsyncIterator[Queue]:
        """What works at lanes, under the ``name`` of this process; lanes are given back behind."""
        pool = self.base.pool
        async with LaneKeeper(pool, name, lease_s=self.base.settings.lane_lease_s) as keeper:
            preparer = Preparer(pool.connection, self.drivers, forwarded=self._forwarded)
            applier = Applier(pool.connection, self.procedures)
            visitor = Visitor(
                self.links, self.pipeline, self.forwarding, applier, self.drivers, worker=name,
                lease_s=keeper.lease_s,
            )  # fmt: skip
            worker = LaneWorker(pool.connection, preparer, visitor, self.pipeline, self.keeper)
            # more lanes than can be talked in would only be kept from other processes; fewer, and slow
            # concentrators keep fast ones waiting
            lanes = max(2, self.base.settings.collector_concurrency)
            connected = self.access.is_connected
            yield Queue(pool, keeper, worker, lanes=lanes, is_connected=connected)

    def sampler(self, queue: Queue) -> Sampler:
        """Samples meters that keep no load curve, on lines that nobody else holds."""
        return Sampler(
            self.base.pool.connection, self.drivers, self.links, self.pipeline, keeper=queue.keeper
        )

    @asynccontextmanager
    async def by_hand(self, actor: str) -> AsyncIterator[ByHand]:
        """Starts jobs for ``actor`` and follows them: what other processes work at, where there are any, else
        what this one does."""
        async with self.base.pool.connection() as connection:
            others = await workers.read_meters(connection)
        if others:
            yield self.following(actor)
            return
        async with self.at_work(this_process(Kind.WORKER).worker) as queue:
            yield self.following(actor, queue)

    def following(self, actor: str, queue: Queue | None = None) -> ByHand:
        """Starts jobs for ``actor`` and follows them; ``queue`` works at them here."""
        settings = self.base.settings
        retry = Retry(
            attempts=settings.read_attempts,
            first_s=settings.retry_first_s,
            longest_s=settings.retry_longest_s,
        )
        connect = self.base.pool.connection
        return ByHand(connect, self.drivers, queue, retry=retry, actor=actor, forwarded=self._forwarded)

    @property
    def _forwarded(self) -> timedelta:
        return timedelta(seconds=self.base.settings.forwarded_within_s)

    async def target(self, meter: Meter) -> Target:
        """The meter and where it stands in the network. Raises UnavailableError."""
        async with self.base.pool.connection() as connection:
            return (await placed(connection, [meter]))[0]


@asynccontextmanager
async def open_house(base: Base, *, counter_block: int | None = None) -> AsyncIterator[House]:
    """Keys, counters, pipeline, access, drivers and links over an open database, closed behind.

    ``counter_block`` invocation counters are reserved at once instead of the settings' number. Raises
    SealError where keys are stored and no master key opens them.
    """
    settings = base.settings
    async with AsyncExitStack() as stack:
        intake = await stack.enter_async_context(open_intake(base))
        pipeline, metrics = intake.pipeline, intake.metrics
        access = await stack.enter_async_context(
            _access(base, intake.vault, counter_block or settings.counter_block)
        )
        access.notified = intake.handler.told
        modbus = _modbus(settings)
        stack.callback(modbus.close)
        drivers = _drivers(settings, access, modbus)
        links = _links(settings, metrics)
        keeper = await stack.enter_async_context(Keeper(base.pool.connection, links.breakers, shared=True))
        forwarding = Forwarding(base.pool.connection, pipeline, profile_folders=settings.profile_folders)
        _watch_rounds(metrics, access, forwarding)
        _watch(metrics, links)
        yield House(
            base,
            intake.vault,
            pipeline,
            intake.directory,
            intake.handler,
            intake.ingest,
            metrics,
            access,
            drivers,
            links,
            keeper,
            forwarding,
            procedures_of(base),
        )


def procedures_of(base: Base) -> tuple[Procedure, ...]:
    """How each kind of program is applied to a meter. They ask drivers for models alone: no key is opened."""
    settings, connect = base.settings, base.pool.connection
    drivers = _drivers(settings, _access(base, None, settings.counter_block), _modbus(settings))

    def features(model: str) -> frozenset[Feature]:
        return drivers.of(model).features(model)

    rules = Rules(settings.disconnections_per_hour)
    return (
        ClockProcedure(connect, drivers),
        FirmwareProcedure(connect, Packages(connect, settings.firmware_keys), features),
        SwitchProcedure(connect, features, rules),
        LimitProcedure(connect, features, rules),
        ParametersProcedure(connect, drivers, lambda model: dlms_model(model, settings.profile_folders)),
        KeysProcedure(connect, base.vault, profile_folders=settings.profile_folders),
        TariffProcedure(StoredHistory(connect), profile_folders=settings.profile_folders),
    )


def completeness_rounds(base: Base) -> Rounds:
    """Rounds of the gap ledger, back-fill and reports. They ask drivers for models alone: no key is opened,
    and nobody is dialled."""
    settings = base.settings
    drivers = _drivers(settings, _access(base, None, settings.counter_block), _modbus(settings))
    return Rounds(
        base.pool.connection,
        lambda model: drivers.of(model).curves(model),
        drivers.forwards,
        wake,
        forwarded=timedelta(seconds=settings.forwarded_within_s),
        policy=GapPolicy(overdue=timedelta(seconds=settings.gaps_after_s)),
    )


def _access(base: Base, vault: Vault | None, counter_block: int) -> Access:
    settings = base.settings
    title = bytes.fromhex(settings.system_title)
    return Access(
        base.pool.connection,
        vault,
        CounterBlocks(base.pool.connection, title, block=counter_block),
        system_title=title,
        deadlines=_deadlines(settings),
        profile_folders=settings.profile_folders,
    )


def _drivers(settings: Settings, access: Access, modbus: ModbusDriver) -> Drivers:
    return Drivers(
        [
            DlmsDriver(access, profile_folders=settings.profile_folders),
            StationDriver(access, profile_folders=settings.profile_folders),
            modbus,
            *_lines(settings),
            _mqtt(settings),
        ],
        profile_folders=settings.profile_folders,
    )


def _lines(settings: Settings) -> list[Driver]:
    folders, sampling = settings.profile_folders, _sampling(settings)
    return [
        Dlt645Driver(profile_folders=folders, sampling=sampling, dial_mqtt=_gateways(settings)),
        Iec62056Driver(profile_folders=folders, sampling=sampling),
        P1Driver(profile_folders=folders, sampling=sampling),
    ]


def _gateways(settings: Settings) -> DialMqtt | None:
    if settings.mqtt_url is None:
        return None
    return GatewayLines(broker(settings), settings.mqtt_client_id).dial


def _mqtt(settings: Settings) -> MqttDriver:
    exchange = None
    if settings.mqtt_url is not None:
        exchange = BrokerExchange(broker(settings), settings.mqtt_client_id)
    return MqttDriver(exchange, profile_folders=settings.profile_folders)


def _sampling(settings: Settings) -> Sampling:
    return Sampling(period_s=settings.sample_period_s, tolerance_s=settings.sample_tolerance_s)


def _modbus(settings: Settings) -> ModbusDriver:
    return ModbusDriver(
        profile_folders=settings.profile_folders,
        sampling=_sampling(settings),
        timing=Timing(connect_s=settings.connect_timeout_s, answer_s=settings.modbus_response_timeout_s),
    )


def _links(settings: Settings, metrics: Metrics) -> Links:
    return Links(
        LinkLimits(
            settings.collector_concurrency,
            settings.permits_station,
            settings.permits_cell,
            settings.permits_links,
        ),
        breakers=Breakers(
            Policy(settings.breaker_failures, settings.breaker_first_s, settings.breaker_longest_s)
        ),
        pace=Pace(settings.answer_shortest_s, settings.answer_longest_s),
        metrics=metrics,
    )


def _watch_rounds(metrics: Metrics, access: Access, forwarding: Forwarding) -> None:
    metrics.watch(
        "headend_dlms_ignored",
        "Messages in DLMS sessions that were not the meter's, or made no sense: dropped",
        lambda: access.ignored,
        total=True,
    )
    metrics.watch(
        "headend_concentrator_rounds",
        "Rounds of concentrators: rows fetched, profiles released, rounds failed",
        lambda: forwarding.totals,
        label="what",
        total=True,
    )


def _watch(metrics: Metrics, links: Links) -> None:
    """Figures that somebody keeps already."""
    metrics.watch(
        "headend_breakers", "Circuit breakers that are remembered", links.breakers.counts, label="state"
    )
    metrics.watch(
        "headend_permits_waiting", "Conversations that wait for permits", lambda: links.permits.waiting
    )
    metrics.watch(
        "headend_permits",
        "Conversations at once, at most now, by kind of link",
        links.limits.now,
        label="link",
    )


def _deadlines(settings: Settings) -> Deadlines:
    return Deadlines(
        connect_s=settings.connect_timeout_s,
        associate_s=settings.response_timeout_s,
        response_s=settings.response_timeout_s,
        release_s=settings.release_timeout_s,
        session_s=settings.session_timeout_s,
    )
