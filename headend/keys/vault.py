"""Meter keys in the database, through the sealer: plain keys exist only in this process, as `Key` objects."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from headend.keys.seal import Fingerprint, Sealer
from headend.store import audit, key_generations, keyring
from headend.store.key_generations import Generation, OtherKey
from headend.store.keyring import SealedKey
from headend.store.sql import Connection
from protocols.dlms.security import Key
from schemas.meter import KeyPurpose, check_key

#: Keys sealed anew in one transaction.
_ROTATION_CHUNK: Final = 1000

#: Opened keys of one meter.
MeterKeys = Mapping[KeyPurpose, Key]


@dataclass(frozen=True, slots=True)
class Pending:
    """New keys of a meter; from ``sent_at`` on it may use them, None: it was never told."""

    keys: MeterKeys
    key_ids: Mapping[KeyPurpose, bytes]
    campaign_id: int | None
    sent_at: datetime | None


class Vault:
    """Stores and fetches meter keys. ``fingerprint`` names keys for the counters."""

    def __init__(self, sealer: Sealer, fingerprint: Fingerprint) -> None:
        self._sealer = sealer
        self.fingerprint: Final = fingerprint

    @classmethod
    async def open(cls, connection: Connection, sealer: Sealer) -> "Vault":
        """The vault of this database; makes the fingerprint key where it is new.

        Raises SealError where the database belongs to another master key.
        """
        async with connection.transaction():
            stored = await keyring.fingerprint_key(connection)
            if stored is None:
                fresh = sealer.seal_fingerprint_key(secrets.token_bytes(32))
                await keyring.first_fingerprint_key(connection, fresh, sealer.current_id)
                stored = await keyring.fingerprint_key(connection)
        if stored is None:
            raise RuntimeError("the fingerprint key was deleted while it was made")
        return cls(sealer, Fingerprint(sealer.open_fingerprint_key(*stored)))

    async def put(self, connection: Connection, keys: Mapping[int, MeterKeys]) -> None:
        """Seal and store keys by meter number. Raises ValueError for a key of the wrong length."""
        sealed = []
        for meter_id, by_purpose in keys.items():
            for purpose, key in by_purpose.items():
                check_key(purpose, key.reveal())
                blob = self._sealer.seal(key, meter_id, purpose)
                key_id = self.fingerprint.of(key)
                sealed.append(SealedKey(meter_id, purpose, blob, self._sealer.current_id, key_id))
        if sealed:
            await keyring.put_keys(connection, sealed)

    async def get(self, connection: Connection, meter_id: int) -> MeterKeys:
        """A meter's keys; empty where it has none. Raises SealError."""
        return (await self.get_many(connection, [meter_id])).get(meter_id, {})

    async def get_many(
        self, connection: Connection, meter_ids: Sequence[int]
    ) -> dict[int, dict[KeyPurpose, Key]]:
        """Keys by meter number; meters without keys are left out. Those that were stored before keys had
        fingerprints are named now. Raises SealError."""
        opened: dict[int, dict[KeyPurpose, Key]] = {}
        nameless = []
        for stored in await keyring.keys_of(connection, meter_ids):
            key = opened.setdefault(stored.meter_id, {})[stored.purpose] = self._open(stored)
            if stored.key_id is None:
                nameless.append((stored.meter_id, stored.purpose, self.fingerprint.of(key)))
        if nameless:
            await keyring.name_keys(connection, nameless)
        return opened

    async def pending_many(self, connection: Connection, meter_ids: Sequence[int]) -> dict[int, Pending]:
        """Pending keys by meter number; meters without are left out. Raises SealError."""
        by_meter: dict[int, list[OtherKey]] = {}
        for stored in await key_generations.pending_of(connection, meter_ids):
            by_meter.setdefault(stored.meter_id, []).append(stored)
        return {
            meter_id: Pending(
                {one.purpose: self._open_other(one) for one in found},
                {one.purpose: one.key_id for one in found},
                found[0].campaign_id,
                min((one.sent_at for one in found if one.sent_at is not None), default=None),
            )
            for meter_id, found in by_meter.items()
        }

    async def add_pending(
        self, connection: Connection, meter_id: int, keys: MeterKeys, *, campaign_id: int | None, actor: str
    ) -> None:
        """Seal and store new keys of a meter, durably; the meter must not be told before this returns."""
        current = self._sealer.current_id
        sealed = [
            OtherKey(
                meter_id,
                purpose,
                Generation.PENDING,
                self._sealer.seal(key, meter_id, purpose),
                current,
                self.fingerprint.of(key),
            )
            for purpose, key in keys.items()
        ]
        await key_generations.add_pending(connection, meter_id, sealed, campaign_id=campaign_id, actor=actor)

    async def rotate(self, connection: Connection, *, actor: str) -> int:
        """Seal all keys under the current master key; how many were under another.

        May be stopped and started again at any time: each thousand is a transaction, and former keys stay
        readable as long as the settings name them. Fingerprints, and so counters, do not change.
        """
        async with connection.transaction():
            stored = await keyring.fingerprint_key(connection)
            if stored is not None and stored[1] != self._sealer.current_id:
                secret = self._sealer.open_fingerprint_key(*stored)
                blob = self._sealer.seal_fingerprint_key(secret)
                await keyring.reseal_fingerprint_key(connection, blob, self._sealer.current_id)
        current = self._sealer.current_id
        done = await self._rotate_others(connection)
        while True:
            async with connection.transaction():
                old = await keyring.sealed_by_others(connection, current, limit=_ROTATION_CHUNK)
                if not old:
                    return done
                new = [
                    SealedKey(
                        k.meter_id,
                        k.purpose,
                        self._sealer.seal(self._open(k), k.meter_id, k.purpose),
                        current,
                    )
                    for k in old
                ]
                await keyring.reseal(connection, new, sealed_by=current)
                await audit.record(
                    connection,
                    actor=actor,
                    action="keys.resealed",
                    object_=f"master:{current}",
                    detail={"keys": len(new)},
                )
            done += len(new)

    async def _rotate_others(self, connection: Connection) -> int:
        current, done = self._sealer.current_id, 0
        while True:
            async with connection.transaction():
                old = await key_generations.sealed_by_others(connection, current, limit=_ROTATION_CHUNK)
                if not old:
                    return done
                new = [
                    replace(k, sealed=self._sealer.seal(self._open_other(k), k.meter_id, k.purpose))
                    for k in old
                ]
                await key_generations.reseal(connection, new, sealed_by=current)
            done += len(new)

    def _open(self, stored: SealedKey) -> Key:
        return self._sealer.open(stored.sealed, stored.sealed_by, stored.meter_id, stored.purpose)

    def _open_other(self, stored: OtherKey) -> Key:
        return self._sealer.open(stored.sealed, stored.sealed_by, stored.meter_id, stored.purpose)

    def __repr__(self) -> str:
        return f"Vault({self._sealer!r})"
