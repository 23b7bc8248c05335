"""New keys for DLMS meters: key_transfer of Security Setup (class 64)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from headend.drivers.dlms.commands.base import Commands
from protocols.dlms import axdr
from protocols.dlms.association.settings import CipherForm
from protocols.dlms.cosem import KEY_TRANSFER, ClassId, KeyId, Method, TransferredKey, key_transfer
from protocols.dlms.obis import Obis
from protocols.dlms.security import Key, wrap_key
from protocols.errors import LocalProtocolError
from schemas.meter import KeyPurpose
from schemas.programs.keys import ORDER

_IDS: Final = {
    KeyPurpose.ENCRYPTION: KeyId.GLOBAL_UNICAST_ENCRYPTION,
    KeyPurpose.AUTHENTICATION: KeyId.AUTHENTICATION,
    KeyPurpose.MASTER: KeyId.MASTER,
}
_GLOBAL: Final = frozenset({KeyPurpose.ENCRYPTION, KeyPurpose.AUTHENTICATION})


class KeysCommands(Commands):
    """See `headend.drivers.commands.keys`."""

    @property
    def renewed_keys(self) -> Mapping[KeyPurpose, bytes]:
        """Pending keys that the session is ciphered with."""
        return self._session.renewed

    @property
    def key_purposes(self) -> frozenset[KeyPurpose]:
        """The global keys; the master key too where each message brings its own key wrapped under that."""
        cipher = self._session.plan.settings.cipher
        if cipher is None:
            return frozenset()
        wraps = cipher.form is CipherForm.GENERAL_CIPHERING_WRAPPED
        return _GLOBAL | {KeyPurpose.MASTER} if wraps else _GLOBAL

    async def transfer_keys(self, new: Mapping[KeyPurpose, Key], *, under: Key) -> None:
        """One ACTION with all of them, the master key last."""
        keys, cipher = self._model.keys, self._session.plan.settings.cipher
        if keys is None or cipher is None:
            raise LocalProtocolError(f"meters of model {self._model.name} are not given keys")
        wrapped = [
            TransferredKey(_IDS[purpose], wrap_key(new[purpose], kek=under))
            for purpose in ORDER
            if purpose in new
        ]
        proves = self.key_purposes & new.keys()
        if proves and keys.answer != "old":
            self._session.expect_keys(
                replace(
                    cipher,
                    encryption_key=new.get(KeyPurpose.ENCRYPTION, cipher.encryption_key),
                    authentication_key=new.get(KeyPurpose.AUTHENTICATION, cipher.authentication_key),
                    master_key=new.get(KeyPurpose.MASTER, cipher.master_key),
                )
            )
        method = Method(ClassId.SECURITY_SETUP, Obis.parse(keys.obis), KEY_TRANSFER)
        try:
            await self._session.action(method, axdr.encode(key_transfer(wrapped)))
        finally:
            if proves:
                self._session.end("its keys were changed: it is talked with anew")
