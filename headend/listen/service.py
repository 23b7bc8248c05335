"""Both listeners over one directory and one handler, for the composition root."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from headend.ingest.pipeline import Pipeline
from headend.keys.vault import Vault
from headend.listen.directory import Connect, Directory
from headend.listen.inbound import InboundListener
from headend.listen.push import PushListener
from headend.session.access import Access
from schemas.config import Settings


@dataclass(frozen=True, slots=True)
class Listeners:
    """Pushes, and meters that dial in; each does nothing where the settings name no address for it."""

    push: PushListener
    inbound: InboundListener


@asynccontextmanager
async def open_listeners(
    settings: Settings, connect: Connect, vault: Vault | None, pipeline: Pipeline, access: Access
) -> AsyncIterator[Listeners]:
    """Listen where the settings say, for as long as the context lasts.

    Open it inside of pipeline and access and outside of whoever reads meters: inside, ``access`` finds the
    lines of ``inbound:`` meters. ``connect`` is a pool's ``connection``. Raises OSError where an address
    cannot be had.
    """
    directory = Directory(connect, vault, profile_folders=settings.profile_folders)
    push = PushListener(settings, connect, vault, pipeline, directory=directory)
    inbound = InboundListener(settings, access, directory, push.handler)
    async with push, inbound:
        yield Listeners(push, inbound)
