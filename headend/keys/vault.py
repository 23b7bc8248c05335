"""Meter keys in the database, through the sealer: plain keys exist only in this process, as `Key` objects."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Final

from headend.keys.seal import Fingerprint, Sealer
from headend.store import audit, keyring
from headend.store.keyring import SealedKey
from headend.store.sql import Connection
from protocols.dlms.security import Key
from schemas.meter import KeyPurpose, check_key

#: Keys sealed anew in one transaction.
_ROTATION_CHUNK: Final = 1000

#: Opened keys of one meter.
MeterKeys = Mapping[KeyPurpose, Key]


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
                sealed.append(SealedKey(meter_id, purpose, blob, self._sealer.current_id))
        if sealed:
            await keyring.put_keys(connection, sealed)

    async def get(self, connection: Connection, meter_id: int) -> MeterKeys:
        """A meter's keys; empty where it has none. Raises SealError."""
        return (await self.get_many(connection, [meter_id])).get(meter_id, {})

    async def get_many(
        self, connection: Connection, meter_ids: Sequence[int]
    ) -> dict[int, dict[KeyPurpose, Key]]:
        """Keys by meter number; meters without keys are left out. Raises SealError."""
        opened: dict[int, dict[KeyPurpose, Key]] = {}
        for stored in await keyring.keys_of(connection, meter_ids):
            opened.setdefault(stored.meter_id, {})[stored.purpose] = self._open(stored)
        return opened

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
        done = 0
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

    def _open(self, stored: SealedKey) -> Key:
        return self._sealer.open(stored.sealed, stored.sealed_by, stored.meter_id, stored.purpose)

    def __repr__(self) -> str:
        return f"Vault({self._sealer!r})"
