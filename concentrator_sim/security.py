"""How simulated meters are secured: one mode per profile of the head-end, and the keys of each meter.

Keys are derived from the field's seed, so that a field can be built again. They protect nothing: these meters
are simulated, and `field_csv` writes their keys in the clear for that reason alone.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from protocols.dlms.association import CipherSettings, ServerSettings
from protocols.dlms.cosem import Attribute
from protocols.dlms.enums import Mechanism, SecuritySuite
from protocols.dlms.security import Key, Policy, Protection, key_length

_WITH_HLS_SECRET: Final = frozenset({Mechanism.HLS_MD5, Mechanism.HLS_SHA1, Mechanism.HLS_SHA256})


@dataclass(frozen=True, slots=True)
class SecurityMode:
    """``model`` is the head-end's profile for it. The form of ciphering (glo, ded, general) is the client's
    choice; modes that differ in it alone tell the head-end which one to use."""

    name: str
    model: str
    mechanism: Mechanism
    ciphered: bool = False
    suite: SecuritySuite = SecuritySuite.SUITE_0


_MODES: Final = (
    SecurityMode("none", "headend-sim", Mechanism.NONE),
    SecurityMode("lls", "headend-sim-lls", Mechanism.LLS),
    SecurityMode("hls3", "headend-sim-hls3", Mechanism.HLS_MD5),
    SecurityMode("hls4", "headend-sim-hls4", Mechanism.HLS_SHA1),
    SecurityMode("hls5", "headend-sim-hls5", Mechanism.HLS_GMAC, True),
    SecurityMode("hls6", "headend-sim-hls6", Mechanism.HLS_SHA256),
    SecurityMode("hls5-suite1", "headend-sim-hls5-suite1", Mechanism.HLS_GMAC, True, SecuritySuite.SUITE_1),
    SecurityMode("hls5-suite2", "headend-sim-hls5-suite2", Mechanism.HLS_GMAC, True, SecuritySuite.SUITE_2),
    SecurityMode("hls5-general", "headend-sim-hls5-general", Mechanism.HLS_GMAC, True),
    SecurityMode("hls5-dedicated", "headend-sim-hls5-dedicated", Mechanism.HLS_GMAC, True),
    SecurityMode("hls5-wrapped", "headend-sim-hls5-wrapped", Mechanism.HLS_GMAC, True),
)
#: All modes by name.
MODES: Final[Mapping[str, SecurityMode]] = MappingProxyType({mode.name: mode for mode in _MODES})


@dataclass(frozen=True, slots=True)
class MeterKeys:
    """The keys of one meter; None where its mode has no use for one."""

    encryption: Key | None = None
    authentication: Key | None = None
    master: Key | None = None
    lls: Key | None = None
    hls: Key | None = None


def derive_keys(seed: int, number: int, mode: SecurityMode) -> MeterKeys:
    """The keys of meter ``number`` of the field ``seed``."""

    def key(purpose: str, length: int) -> Key:
        return Key(hashlib.sha256(f"{seed}/{number}/{purpose}".encode()).digest()[:length])

    length = key_length(mode.suite)
    encryption = authentication = master = lls = hls = None
    if mode.ciphered or mode.mechanism is Mechanism.HLS_GMAC:
        encryption, authentication, master = (key(name, length) for name in ("guek", "gak", "kek"))
    if mode.mechanism is Mechanism.LLS:
        lls = Key(hashlib.sha256(f"{seed}/{number}/lls".encode()).hexdigest()[:8].encode())
    if mode.mechanism in _WITH_HLS_SECRET:
        hls = key("hls", 16)
    return MeterKeys(encryption, authentication, master, lls, hls)


def management_settings(
    mode: SecurityMode, keys: MeterKeys, title: bytes, *, max_pdu: int, block_size: int = 0
) -> ServerSettings:
    """What the management client must prove, and how it is answered. Raises LocalProtocolError."""
    cipher = None
    policy = Policy()
    if keys.encryption is not None:
        cipher = CipherSettings(
            title, keys.encryption, keys.authentication, suite=mode.suite, master_key=keys.master
        )
    if mode.ciphered:
        policy = Policy(Protection.AUTHENTICATED_ENCRYPTED, Protection.AUTHENTICATED_ENCRYPTED)
    secrets: dict[Mechanism, Key] = {}
    secret = keys.lls if mode.mechanism is Mechanism.LLS else keys.hls
    if secret is not None:
        secrets[mode.mechanism] = secret
    return ServerSettings(
        frozenset({mode.mechanism}),
        secrets,
        cipher,
        policy,
        max_pdu=max_pdu,
        block_size=block_size,
        system_title=title,
    )


def public_settings(title: bytes, public: frozenset[Attribute], *, max_pdu: int) -> ServerSettings:
    """The public client: proves nothing, reads the ``public`` attributes and nothing else."""
    return ServerSettings(frozenset(), max_pdu=max_pdu, system_title=title, public_objects=public)
