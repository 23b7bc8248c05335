"""Key slots of a simulated meter: new keys by key_transfer of its Security Setup (class 64, method 2).

A transfer acts at once. The association that it came in ends behind its answer, which is still under the old
keys, or under the new ones already, as the meter's maker likes it. Associations on other links go on as they
stand. The client's invocation counters are kept for each encryption key by itself.
"""

import hashlib
from dataclasses import replace
from enum import StrEnum
from typing import Final

from concentrator_sim.object_model import Asked, Meter
from protocols.dlms import axdr
from protocols.dlms.cosem import KeyId, transferred_keys
from protocols.dlms.enums import ActionResult
from protocols.dlms.security import Key, PeerCounter, key_length, unwrap_key
from protocols.errors import SecurityError

_SLOTS: Final = {
    KeyId.GLOBAL_UNICAST_ENCRYPTION: "encryption",
    KeyId.AUTHENTICATION: "authentication",
    KeyId.MASTER: "master",
}


class Mishap(StrEnum):
    """What goes wrong with the next transfer."""

    ANSWER_LOST = "answer_lost"  # the keys are taken, and nobody is told
    SECOND_REFUSED = "second_refused"  # the first of the list is taken, the second is not
    NOT_TAKEN = "not_taken"  # answered with success, and nothing is changed
    REQUEST_LOST = "request_lost"  # nothing is taken, and nothing answered


class KeySlots:
    """The keys of a meter that can be changed. ``answers_new``: a transfer is answered under the new keys.
    ``mishaps`` come one after another, each with one transfer."""

    def __init__(self, meter: Meter) -> None:
        self.keys = meter.keys
        self.answers_new = False
        self.mishaps: list[Mishap] = []
        #: set by a transfer until it is answered: whether its answer is sent at all
        self.answering: bool | None = None
        self.transfers = 0
        self._length = key_length(meter.mode.suite)
        self._peers: dict[bytes, PeerCounter] = {}

    def peer(self, kept: PeerCounter | None = None) -> PeerCounter:
        """The client's counter under the encryption key of now; ``kept`` where it is not known here yet."""
        key = self.keys.encryption
        name = b"" if key is None else hashlib.sha256(key.reveal()).digest()
        return self._peers.setdefault(name, PeerCounter() if kept is None else kept)

    def transfer(self, parameter: bytes) -> ActionResult:
        """Take the keys in the order of the list, each unwrapped under the master key from before it all.

        Raises RemoteProtocolError where the parameter has another form. A wrap that does not verify, a key of
        another length or a slot that is not there refuses the whole list.
        """
        master = self.keys.master
        if master is None:
            return ActionResult.OBJECT_UNAVAILABLE
        self.transfers += 1
        wanted: list[tuple[str, Key]] = []
        for key_id, wrapped in transferred_keys(axdr.decode_exact(parameter)):
            try:
                key = unwrap_key(wrapped, kek=master)
            except SecurityError:
                return ActionResult.OTHER_REASON
            slot = _SLOTS.get(key_id)
            if slot is None or len(key) != self._length:
                return ActionResult.SCOPE_OF_ACCESS_VIOLATED
            wanted.append((slot, key))
        mishap = self.mishaps.pop(0) if self.mishaps else None
        refused = mishap is Mishap.SECOND_REFUSED and len(wanted) > 1
        if mishap in (Mishap.NOT_TAKEN, Mishap.REQUEST_LOST):
            wanted = []
        for slot, key in wanted[:1] if refused else wanted:
            self.keys = replace(self.keys, **{slot: key})
        if mishap in (Mishap.ANSWER_LOST, Mishap.REQUEST_LOST):
            self.answering = False
        elif any(slot != "master" for slot, _ in wanted):
            self.answering = True
        return ActionResult.OTHER_REASON if refused else ActionResult.SUCCESS


def transfer(asked: Asked, parameter: bytes | None) -> ActionResult:
    """Method key_transfer of Security Setup."""
    if parameter is None:
        return ActionResult.TYPE_UNMATCHED
    meter = asked.device.meter
    slots = meter.part(KeySlots)
    slots.peer(meter.client_counter)
    result = slots.transfer(parameter)
    meter.rekeyed(slots.peer())
    return result
