"""SIGINT and SIGTERM: asked politely, then firmly, then at once."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any


class Stop(asyncio.Event):
    """That somebody asked for the end. ``is_awaited``: the process is up and waits for it."""

    is_awaited = False

    def __init__(self, main: "asyncio.Task[Any] | None" = None) -> None:
        super().__init__()
        self._main = main

    def ask(self) -> None:
        """Ask for the end; before it is waited for, the start is cancelled."""
        if self.is_awaited:
            self.set()
        elif self._main is not None:
            self._main.cancel()


@contextlib.contextmanager
def signals() -> Iterator[Stop]:
    """An event that SIGINT and SIGTERM set; before it is waited for they cancel, as a second one does. The
    third ends the process."""
    loop = asyncio.get_running_loop()
    main = asyncio.current_task()
    stop = Stop(main)
    received = 0

    def on_signal(number: int) -> None:
        nonlocal received
        received += 1
        if received == 1:
            stop.ask()
        elif received == 2 and main is not None:
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
