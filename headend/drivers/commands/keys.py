"""What rotation of keys asks of a meter."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from headend.drivers.contract import Conversation
from protocols.dlms.security import Key
from schemas.meter import KeyPurpose


@runtime_checkable
class KeysConversation(Conversation, Protocol):
    """A conversation that tells under which keys it is held, and that can give the meter new ones."""

    @property
    def renewed_keys(self) -> Mapping[KeyPurpose, bytes]:
        """Pending keys that this conversation is held under, by purpose: their fingerprints. They are the
        meter's, for it would not have understood us otherwise."""

    @property
    def key_purposes(self) -> frozenset[KeyPurpose]:
        """Purposes whose keys this conversation proves: another key would have failed."""

    async def transfer_keys(self, new: Mapping[KeyPurpose, Key], *, under: Key) -> None:
        """Tell the meter new keys, all in one transfer, wrapped ``under`` its master key. It acts at once:
        where a key is changed that this conversation is held under, it is over, whatever came of it.

        Raises ActionRefused where the meter says no, and the tree of `protocols.errors`: then nobody knows.
        """
