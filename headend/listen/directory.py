"""Which meter is it? Meters, models and keys by what a sender tells of itself, remembered for a minute."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Generic, TypeVar

from headend.keys.seal import SealError
from headend.keys.subsets import subsets
from headend.keys.vault import MeterKeys, Pending, Vault
from headend.listen.heartbeat import Claim
from headend.store import meters
from headend.store.sql import Connection
from protocols.dlms.enums import SecuritySuite
from protocols.dlms.security import CipherKeys, Key, Protection
from protocols.errors import LocalProtocolError
from schemas.meter import KeyPurpose, Meter, MeterState
from schemas.model import Heartbeat, MeterModel, ModelError, load_model, model_names
from schemas.model import Protection as ModelProtection

log = logging.getLogger(__name__)

#: A message that does not open has its meter's keys looked up anew, once in so many seconds.
_AGAIN_S: Final = 2.0

Connect = Callable[[], AbstractAsyncContextManager[Connection]]
K = TypeVar("K")
V = TypeVar("V")

_REQUIRED: Final = {
    ModelProtection.NONE: Protection.NONE,
    ModelProtection.AUTHENTICATED: Protection.AUTHENTICATED,
    ModelProtection.ENCRYPTED: Protection.ENCRYPTED,
    ModelProtection.BOTH: Protection.AUTHENTICATED_ENCRYPTED,
}


@dataclass(frozen=True, slots=True)
class KeySet:
    """Keys that a message may be under; ``key_id`` names the one that encrypts."""

    cipher: CipherKeys
    key_id: bytes
    master: Key | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Known:
    """A meter with what is needed to understand it. ``cipher`` is None where it has no usable keys and
    ``without`` then says why; ``key_id`` names its encryption key. While its keys are being changed there are
    ``others``, which it may use already."""

    meter: Meter
    model: MeterModel
    cipher: CipherKeys | None = None
    without: str = ""
    master: Key | None = field(default=None, repr=False)
    key_id: bytes | None = None
    others: tuple[KeySet, ...] = ()

    @property
    def key_sets(self) -> tuple[KeySet, ...]:
        """All keys that its messages may be under."""
        if self.cipher is None or self.key_id is None:
            return ()
        return (KeySet(self.cipher, self.key_id, self.master), *self.others)

    @property
    def required(self) -> Protection:
        """The least protection of its pushes: what its model asks of answers too."""
        return _REQUIRED[self.model.association.protection]

    @property
    def may_push_plain(self) -> bool:
        """Whether a plain push is believed: only of models that describe pushes and ask for no protection."""
        return bool(self.model.push) and not self.required


class Remembered(Generic[K, V]):
    """A bounded memory of answers, each for ``ttl_s``; the longest unused goes first."""

    def __init__(self, ttl_s: float, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._ttl_s = ttl_s
        self._most = most
        self._clock = clock
        self._items: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def get(self, key: K) -> V | None:
        """What is remembered and not too old."""
        found = self._items.get(key)
        if found is None or found[0] <= self._clock():
            return None
        self._items.move_to_end(key)
        return found[1]

    def forget(self, key: K) -> None:
        """Remember it no more."""
        self._items.pop(key, None)

    def put(self, key: K, value: V) -> None:
        """Remember."""
        self._items[key] = (self._clock() + self._ttl_s, value)
        self._items.move_to_end(key)
        if len(self._items) > self._most:
            self._items.popitem(last=False)


class Directory:
    """Looks meters up. ``vault`` None: no keys, so nothing ciphered can be opened.

    What is found, and what is not, is remembered for ``ttl_s``: a changed key or a new meter is seen after
    that at the latest. Methods raise UnavailableError while the database is away.
    """

    def __init__(
        self,
        connect: Connect,
        vault: Vault | None,
        *,
        profile_folders: tuple[Path, ...] = (),
        ttl_s: float = 60.0,
        most: int = 20_000,
    ) -> None:
        self._connect = connect
        self._vault = vault
        self._folders = profile_folders
        self._titles: Remembered[bytes, tuple[Known, ...]] = Remembered(ttl_s, most)
        self._names: Remembered[frozenset[str], tuple[Known, ...]] = Remembered(ttl_s, most)
        self._numbers: Remembered[int, tuple[Known, ...]] = Remembered(ttl_s, most)
        self._again: Remembered[bytes, bool] = Remembered(_AGAIN_S, most)
        self._models: Remembered[str, tuple[MeterModel, ...]] = Remembered(ttl_s, 1)

    def models(self) -> tuple[MeterModel, ...]:
        """All meter models that can be loaded."""
        known = self._models.get("")
        if known is None:
            known = tuple(self._loadable())
            self._models.put("", known)
        return known

    def heartbeats(self) -> tuple[Heartbeat, ...]:
        """The heartbeats of all models, each once."""
        return tuple(dict.fromkeys(m.heartbeat for m in self.models() if m.heartbeat is not None))

    async def by_title(self, title: bytes) -> Known | None:
        """The meter with this system title."""
        found = self._titles.get(title)
        if found is None:
            async with self._connect() as connection:
                found = await self._known(connection, await meters.find(connection, titles=[title]))
            self._titles.put(title, found)
        return found[0] if found else None

    async def again(self, title: bytes) -> Known | None:
        """The same, looked up anew: its keys may have been changed. Not oftener than every `_AGAIN_S`
        seconds, whoever asks for it; then None."""
        if self._again.get(title):
            return None
        self._again.put(title, True)
        self._titles.forget(title)
        return await self.by_title(title)

    async def by_names(self, names: Iterable[str]) -> tuple[Known, ...]:
        """Meters whose logical device name or asset id is one of ``names``."""
        wanted = frozenset(name for name in names if name)
        if not wanted:
            return ()
        found = self._names.get(wanted)
        if found is None:
            listed = sorted(wanted)
            async with self._connect() as connection:
                found = await self._known(
                    connection, await meters.find(connection, asset_ids=listed, names=listed)
                )
            self._names.put(wanted, found)
        return found

    async def by_number(self, meter_id: int) -> Known | None:
        """The meter with this number of ours."""
        found = self._numbers.get(meter_id)
        if found is None:
            async with self._connect() as connection:
                found = await self._known(connection, await meters.find(connection, ids=[meter_id]))
            self._numbers.put(meter_id, found)
        return found[0] if found else None

    async def by_claim(self, claim: Claim) -> Known | None:
        """The one meter that a heartbeat names; None where there is none, or several."""
        if claim.title is not None:
            return await self.by_title(claim.title)
        found = await self.by_names([claim.name or ""])
        return found[0] if len(found) == 1 else None

    async def _known(self, connection: Connection, found: Sequence[Meter]) -> tuple[Known, ...]:
        living = [meter for meter in found if meter.state is not MeterState.REMOVED]
        keys: dict[int, dict[KeyPurpose, Key]] = {}
        pending: dict[int, Pending] = {}
        trouble = ""
        if self._vault is not None and living:
            try:
                numbers = [meter.meter_id for meter in living]
                pending = await self._vault.pending_many(connection, numbers)
                keys = await self._vault.get_many(connection, numbers)
            except SealError as error:
                trouble = f"its keys cannot be opened: {error}"
        return tuple(
            known
            for meter in living
            if (
                known := self._with_keys(
                    meter, keys.get(meter.meter_id, {}), pending.get(meter.meter_id), trouble
                )
            )
            is not None
        )

    def _with_keys(
        self, meter: Meter, keys: MeterKeys, pending: Pending | None, trouble: str
    ) -> Known | None:
        try:
            model = load_model(meter.model, self._folders)
        except ModelError as error:
            log.error("meter %s: %s", meter.asset_id, error)  # noqa: TRY400 - says all there is
            return None
        encryption = keys.get(KeyPurpose.ENCRYPTION)
        if encryption is None or self._vault is None:
            return Known(meter, model, without=trouble or "its encryption key is not stored")
        suite = SecuritySuite(model.association.suite)

        def key_set(keys: MeterKeys) -> KeySet:
            cipher = CipherKeys(keys[KeyPurpose.ENCRYPTION], keys.get(KeyPurpose.AUTHENTICATION), suite)
            return KeySet(cipher, fingerprint.of(cipher.encryption), keys.get(KeyPurpose.MASTER))

        fingerprint = self._vault.fingerprint
        try:
            first = key_set(keys)
        except LocalProtocolError as error:
            return Known(meter, model, without=str(error))
        others: tuple[KeySet, ...] = ()
        if pending is not None and pending.sent_at is not None:
            new = [{purpose: pending.keys[purpose] for purpose in chosen} for chosen in subsets(pending.keys)]
            others = tuple(key_set({**keys, **some}) for some in new)
        return Known(meter, model, first.cipher, "", first.master, first.key_id, others)

    def _loadable(self) -> Iterable[MeterModel]:
        for name in model_names(self._folders):
            try:
                yield load_model(name, self._folders)
            except ModelError as error:
                log.error("%s", error)  # noqa: TRY400 - says all there is
