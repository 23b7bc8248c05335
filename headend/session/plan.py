"""How to reach one meter: its model, address and keys brought together, once, before the first byte."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from protocols.dlms.association.settings import CipherForm, CipherSettings, ClientSettings
from protocols.dlms.enums import ApplicationContext, Mechanism, SecuritySuite
from protocols.dlms.obis import Obis
from protocols.dlms.security import Key, Protection
from protocols.errors import LocalProtocolError
from schemas.address import LinkAddress, Scheme
from schemas.meter import KeyPurpose
from schemas.model import Hdlc, MechanismName, MeterModel
from schemas.model import Protection as ModelProtection

_MECHANISMS: Final = {
    MechanismName.NONE: Mechanism.NONE,
    MechanismName.LLS: Mechanism.LLS,
    MechanismName.HLS_MD5: Mechanism.HLS_MD5,
    MechanismName.HLS_SHA1: Mechanism.HLS_SHA1,
    MechanismName.HLS_GMAC: Mechanism.HLS_GMAC,
    MechanismName.HLS_SHA256: Mechanism.HLS_SHA256,
}
_FORMS: Final = {
    "service-specific": CipherForm.SERVICE_SPECIFIC,
    "general": CipherForm.GENERAL,
    "general-ciphering": CipherForm.GENERAL_CIPHERING,
    "general-ciphering-wrapped": CipherForm.GENERAL_CIPHERING_WRAPPED,
}
_PROTECTIONS: Final = {
    ModelProtection.NONE: Protection.NONE,
    ModelProtection.AUTHENTICATED: Protection.AUTHENTICATED,
    ModelProtection.ENCRYPTED: Protection.ENCRYPTED,
    ModelProtection.BOTH: Protection.AUTHENTICATED_ENCRYPTED,
}


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """Everything a session needs but counters and deadlines. Keep it per meter: the settings inside hold
    prepared requests and key schedules.

    ``label`` is where readings come from, as batches tell it. ``hdlc`` None means the wrapper.
    ``invocation_counter`` is where the public client reads the last counter that the meter accepted, None
    where the meter has no such object.
    """

    address: LinkAddress
    label: str
    settings: ClientSettings
    client_sap: int
    server_sap: int
    public_client_sap: int
    hdlc: Hdlc | None = None
    invocation_counter: Obis | None = None
    get_with_list: bool = True

    @property
    def uses_counter(self) -> bool:
        """Whether messages of this plan take invocation counters of ours."""
        return self.settings.cipher is not None

    def public(self) -> "SessionPlan":
        """The same meter, as the public client: no secret, no ciphering."""
        return replace(self, settings=_PUBLIC, client_sap=self.public_client_sap)


_PUBLIC: Final = ClientSettings()
#: Links that carry HDLC; on those of IEC 62056-21 a meter is brought to it by mode E.
_HDLC: Final = frozenset({Scheme.HDLC_TCP, Scheme.HDLC_SERIAL, Scheme.IEC62056_TCP, Scheme.IEC62056_SERIAL})


def plan_session(
    model: MeterModel,
    address: LinkAddress,
    keys: Mapping[KeyPurpose, Key],
    our_system_title: bytes | None = None,
) -> SessionPlan:
    """Bring a model, an address and a meter's keys together; the address' SAPs go before the model's.

    Raises LocalProtocolError naming the key or title that is missing or has the wrong length, never the key.
    """
    association = model.association
    mechanism = _MECHANISMS[association.mechanism]
    protection = _PROTECTIONS[association.protection]
    cipher = None
    if protection or mechanism is Mechanism.HLS_GMAC:
        if our_system_title is None:
            raise LocalProtocolError("a ciphered association needs a system title of our own")
        form = _FORMS[association.ciphering]
        wraps = form is CipherForm.GENERAL_CIPHERING_WRAPPED
        master = _needed(keys, KeyPurpose.MASTER) if wraps else keys.get(KeyPurpose.MASTER)
        cipher = CipherSettings(
            our_system_title,
            _needed(keys, KeyPurpose.ENCRYPTION),
            keys.get(KeyPurpose.AUTHENTICATION),
            suite=SecuritySuite(association.suite),
            form=form,
            # HLS-GMAC without ciphering still needs keys; the plain context below then keeps messages plain.
            protection=protection or Protection.AUTHENTICATED,
            use_dedicated_key=association.dedicated_key,
            master_key=master,
        )
    secret = None
    if mechanism is Mechanism.LLS:
        secret = _needed(keys, KeyPurpose.LLS)
    elif mechanism not in (Mechanism.NONE, Mechanism.HLS_GMAC):
        secret = _needed(keys, KeyPurpose.HLS)
    settings = ClientSettings(
        mechanism,
        secret,
        cipher,
        context=ApplicationContext.LN_CIPHERED if protection else ApplicationContext.LN,
        max_pdu=association.max_pdu,
        gbt_window=association.gbt_window,
        # HLS-SHA256 hashes it; others need not be told who we are.
        system_title=our_system_title or b"" if mechanism is Mechanism.HLS_SHA256 else b"",
    )
    hdlc = None
    if address.scheme in _HDLC or (address.scheme is Scheme.INBOUND and association.framing == "hdlc"):
        hdlc = association.hdlc
        if address.physical is not None:
            hdlc = hdlc.model_copy(update={"physical_address": address.physical})
    counter = association.invocation_counter
    return SessionPlan(
        address,
        f"dlms {address}",
        settings,
        association.client_sap if address.client is None else address.client,
        association.server_sap if address.server is None else address.server,
        association.public_client_sap,
        hdlc,
        None if counter is None else _obis(counter),
        get_with_list=not model.quirks.no_get_with_list,
    )


_obis = lru_cache(maxsize=256)(Obis.parse)  # that of a model, for all its meters


def _needed(keys: Mapping[KeyPurpose, Key], purpose: KeyPurpose) -> Key:
    key = keys.get(purpose)
    if key is None:
        raise LocalProtocolError(f"the meter's {purpose} key is not stored, and its model needs it")
    return key
