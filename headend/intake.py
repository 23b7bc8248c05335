"""What takes in what comes by itself: pushes, a broker's messages, payloads of the quarantine."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from headend.drivers.mqtt.message import load_decoder
from headend.drivers.mqtt.meters import Meters
from headend.foundation import Base
from headend.ingest.pipeline import Pipeline
from headend.keys.vault import Vault
from headend.listen.directory import Directory
from headend.listen.forwarded import ForwardedRows
from headend.listen.handler import PushHandler
from headend.listen.push import PushListener
from headend.listen.recognise import Recogniser
from headend.mqtt.frames import FrameDoor
from headend.mqtt.ingest import Ingest
from headend.mqtt.replay import Replay
from headend.mqtt.settings import broker, plan
from headend.mqtt.slots import Worker
from headend.observe.metrics import Metrics
from headend.store.writer import write


@dataclass(frozen=True, slots=True)
class Intake:
    """Recognises what comes, and stores it. Nobody is dialled here."""

    base: Base
    vault: Vault | None
    pipeline: Pipeline
    directory: Directory
    handler: PushHandler
    ingest: Ingest
    metrics: Metrics

    @property
    def replay(self) -> Replay:
        """Payloads of the quarantine once more."""
        return Replay(self.base.pool.connection, self.ingest)

    def mqtt_worker(self) -> Worker:
        """Reads the broker of the settings. Raises ValueError where they name none."""
        settings = self.base.settings
        return Worker(broker(settings), self.base.pool.connection, self.ingest, plan(settings))

    def push_listener(self) -> PushListener:
        """Listens for pushes where the settings say."""
        return PushListener(
            self.base.settings,
            self.base.pool.connection,
            self.vault,
            self.pipeline,
            directory=self.directory,
            handler=self.handler,
        )


@asynccontextmanager
async def open_intake(base: Base) -> AsyncIterator[Intake]:
    """Keys and pipeline over an open database, drained behind.

    Raises SealError where keys are stored and no master key opens them.
    """
    settings, connect = base.settings, base.pool.connection
    vault = await base.vault_if_any()
    async with Pipeline(partial(write, base.pool), drain_s=settings.shutdown_timeout_s) as pipeline:
        directory = Directory(connect, vault, profile_folders=settings.profile_folders)
        recogniser = Recogniser(
            directory, bytes.fromhex(settings.system_title), forwarded=ForwardedRows(connect, directory)
        )
        handler = PushHandler(connect, pipeline, recogniser)
        ingest = _decoding(base, FrameDoor(handler))
        metrics = Metrics()
        _watch(metrics, pipeline, ingest)
        yield Intake(base, vault, pipeline, directory, handler, ingest, metrics)


def keyless_replay(base: Base) -> Replay:
    """Replays payloads of the quarantine without opening a key: those that hold DLMS frames stay there."""
    return Replay(base.pool.connection, _decoding(base, None))


def _decoding(base: Base, frames: FrameDoor | None) -> Ingest:
    folders = base.settings.profile_folders
    decoder = load_decoder(Meters(profile_folders=folders), profile_folders=folders)
    return Ingest(base.pool.connection, decoder, frames)


def _watch(metrics: Metrics, pipeline: Pipeline, ingest: Ingest) -> None:
    """Figures that somebody keeps already."""
    metrics.watch("headend_pipeline_waiting", "Batches that wait to be stored", lambda: pipeline.waiting)
    stored, brought = pipeline.totals, ingest.totals
    for name, about, read in (
        ("pipeline_batches", "Batches committed", lambda: stored.batches),
        ("pipeline_refused", "Batches that the store would not have", lambda: stored.refused),
        ("pipeline_retries", "Writes tried again, the database being away", lambda: stored.retries),
        ("intervals_new", "New intervals by the pipeline", lambda: stored.written.new),
        ("mqtt_messages", "Messages of the broker that were dealt with", lambda: brought.received),
        ("mqtt_repeated", "Messages that came before", lambda: brought.repeated),
        ("mqtt_ignored", "Messages that are right and have nothing to store", lambda: brought.ignored),
        ("mqtt_quarantined", "Messages kept with the reason why not", lambda: brought.quarantined),
        ("mqtt_retries", "Transactions that failed and were tried again", lambda: brought.retries),
        ("mqtt_intervals_new", "New intervals by the broker", lambda: brought.written.new),
    ):
        metrics.watch(f"headend_{name}", about, read, total=True)
