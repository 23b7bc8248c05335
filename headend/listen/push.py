"""The listener for pushed notifications: TCP and UDP, any framing, one handler."""

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from headend.ingest.pipeline import Pipeline
from headend.keys.vault import Vault
from headend.listen.datagrams import DatagramListener
from headend.listen.directory import Connect, Directory
from headend.listen.doorman import Doorman
from headend.listen.handler import PushHandler, Totals
from headend.listen.limits import Limits
from headend.listen.recognise import Recogniser
from headend.listen.sender import Sender
from headend.transport.tcp import TcpStream
from schemas.config import Settings


def endpoint(listener: str) -> tuple[str, int]:
    """Host and port of a listener's setting, such as ``127.0.0.1:4059`` or ``[::1]:4059``."""
    host, _, port = listener.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


class PushListener:
    """``async with PushListener(settings, connect, vault, pipeline)`` takes pushes inside.

    Listens where ``settings.listen_push_tcp`` and ``listen_push_udp`` say; with neither it does nothing. Open
    it inside of the pipeline, so that what it took in is written when it closes. ``connect`` is a pool's
    ``connection``; ``handler`` is one that takes messages of others too. Raises OSError where an address
    cannot be had.
    """

    def __init__(
        self,
        settings: Settings,
        connect: Connect,
        vault: Vault | None,
        pipeline: Pipeline,
        *,
        limits: Limits | None = None,
        directory: Directory | None = None,
        handler: PushHandler | None = None,
    ) -> None:
        self._settings = settings
        self._limits = limits or Limits(idle_s=settings.idle_timeout_s)
        self._directory = directory or Directory(connect, vault, profile_folders=settings.profile_folders)
        title = bytes.fromhex(settings.system_title)
        self.handler = handler or PushHandler(connect, pipeline, Recogniser(self._directory, title))
        self.tcp: Doorman | None = None
        self.udp: DatagramListener | None = None
        self._stack = AsyncExitStack()

    @property
    def totals(self) -> Totals:
        """What came, and what became of it."""
        return self.handler.totals

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            if self._settings.listen_push_tcp is not None:
                host, port = endpoint(self._settings.listen_push_tcp)
                self.tcp = await stack.enter_async_context(
                    Doorman("push", host, port, self._serve, self._limits)
                )
            if self._settings.listen_push_udp is not None:
                host, port = endpoint(self._settings.listen_push_udp)
                self.udp = await stack.enter_async_context(
                    DatagramListener(host, port, self.handler, self._limits, self._directory.heartbeats())
                )
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, traceback)

    async def _serve(self, stream: TcpStream, host: str) -> str:
        sender = Sender(stream, self.handler, self._limits, f"push tcp {host}", self._directory.heartbeats())
        try:
            return await sender.serve()
        finally:
            await sender.cancel()
