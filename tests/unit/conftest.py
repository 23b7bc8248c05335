"""An event loop whose clock jumps, so that timeouts are tested without waiting; and a meter to talk to."""

import asyncio
import itertools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from protocols.dlms import hdlc_link, wrapper
from protocols.dlms.association import (
    ActionRequested,
    GetRequested,
    MethodOutcome,
    ServerAssociation,
    SetRequested,
    Transmit,
)
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.hdlc import HdlcAddress, server_address
from protocols.dlms.hdlc_server import HdlcServerLink
from protocols.errors import LinkClosed

T = TypeVar("T")


class _JumpingSelector(selectors.DefaultSelector):
    """Where a loop would sleep until its next timer, the clock moves there instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise RuntimeError("everything waits and no deadline is set: this would hang for ever")
        self.now += timeout
        return []


class JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


@pytest.fixture
def run_virtual() -> Callable[[Coroutine[Any, Any, T]], T]:
    """Run a coroutine on a clock that jumps. A wait without a deadline raises instead of hanging."""

    def run(main: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner(loop_factory=JumpingLoop) as runner:
            return runner.run(main)

    return run


class FakeMeter:
    """A meter at the other end: a real server association for each client SAP, objects from a dict.

    ``objects`` gives raw A-XDR bytes, a refusal, or a function of the request's item. ``meddle`` sees each
    APDU before it leaves and gives what leaves instead.
    """

    def __init__(self, stream, servers, objects=None, *, hdlc=False, sap=1):
        self.stream = stream
        self.objects = objects or {}
        self.meddle = lambda apdu: [apdu]
        self.asked = []
        self.events = []
        self.sap = sap
        self.lists = 0
        self.links = {}
        self.associations = {}
        for client, settings in servers.items():
            counter = itertools.count(1)
            self.associations[client] = ServerAssociation(
                settings, next_counter=lambda counter=counter: next(counter)
            )
            if hdlc:
                self.links[client] = HdlcServerLink(server_address(sap, 17, 4), HdlcAddress(client))
        self.serving = asyncio.ensure_future(self.serve())

    async def serve(self):
        reader = wrapper.WrapperReader()
        loop = asyncio.get_running_loop()
        while True:
            try:
                data = await self.stream.read_some(loop.time() + 1e6)
            except LinkClosed:
                return
            if self.links:
                for client, link in self.links.items():
                    events = link.receive(data)
                    answers = [e for e in events if isinstance(e, hdlc_link.Apdu)]
                    for answer in answers:
                        for apdu in self.answer(client, answer.data):
                            events += link.send(apdu)
                    for event in events:
                        if isinstance(event, hdlc_link.Transmit) and self.stream.is_open:
                            self.stream.write(event.data)
                continue
            reader.feed(data)
            while (frame := reader.next()) is not None:
                for apdu in self.answer(frame.source, frame.apdu):
                    self.send(frame.source, apdu)

    def send(self, client, apdu):
        if self.stream.is_open:
            self.stream.write(wrapper.encode(self.sap, client, apdu))

    def answer(self, client, apdu):
        server = self.associations[client]
        out = []
        for event in server.receive(apdu):
            self.events.append(event)
            match event:
                case Transmit():
                    out.append(event.apdu)
                case GetRequested():
                    self.lists += len(event.items) > 1
                    out += server.respond_get([self.get(item) for item in event.items])
                case SetRequested():
                    out += server.respond_set(
                        [self.set(*pair) for pair in zip(event.items, event.values, strict=True)]
                    )
                case ActionRequested():
                    done = [self.objects.get(method) for method in event.methods]
                    out += server.respond_action(
                        [
                            d
                            if isinstance(d, MethodOutcome)
                            else MethodOutcome(ActionResult.OBJECT_UNDEFINED)
                            for d in done
                        ]
                    )
        return [changed for apdu in out for changed in self.meddle(apdu)]

    def get(self, item):
        self.asked.append(item)
        found = self.objects.get(item.attribute, DataAccessResult.OBJECT_UNDEFINED)
        return found(item) if callable(found) else found

    def set(self, item, value):
        if item.attribute not in self.objects:
            return DataAccessResult.OBJECT_UNDEFINED
        self.objects[item.attribute] = value
        return DataAccessResult.SUCCESS


@pytest.fixture
def fake_meter():
    return FakeMeter
