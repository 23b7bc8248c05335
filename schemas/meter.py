"""Meters as the head-end knows them: identity, life cycle, keys, metering points, installations, ratios."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class MeterState(StrEnum):
    """Where a meter is in its life. Only commissioned meters count as missing when they do not deliver."""

    RECEIVED = "received"
    INSTALLED = "installed"
    COMMISSIONED = "commissioned"
    SUSPENDED = "suspended"
    REMOVED = "removed"


#: The life cycle: from each state, the states that may follow. A removed meter can come back after
#: refurbishment.
TRANSITIONS: Final[Mapping[MeterState, frozenset[MeterState]]] = MappingProxyType(
    {
        MeterState.RECEIVED: frozenset({MeterState.INSTALLED, MeterState.REMOVED}),
        MeterState.INSTALLED: frozenset({MeterState.COMMISSIONED, MeterState.REMOVED}),
        MeterState.COMMISSIONED: frozenset({MeterState.SUSPENDED, MeterState.REMOVED}),
        MeterState.SUSPENDED: frozenset({MeterState.COMMISSIONED, MeterState.REMOVED}),
        MeterState.REMOVED: frozenset({MeterState.RECEIVED}),
    }
)


#: How a meter may begin: a fleet has a life before this database.
FIRST_STATES: Final = (MeterState.RECEIVED, MeterState.INSTALLED, MeterState.COMMISSIONED)


class LifeCycleError(ValueError):
    """A change of state that the life cycle does not allow."""


def check_transition(old: MeterState, new: MeterState) -> None:
    """Raises LifeCycleError naming the states that may follow ``old``."""
    if new not in TRANSITIONS[old]:
        allowed = ", ".join(sorted(TRANSITIONS[old]))
        raise LifeCycleError(f"a {old} meter cannot become {new}; it can become: {allowed}")


class KeyPurpose(StrEnum):
    """What a meter's key is for."""

    ENCRYPTION = "encryption"  # global unicast encryption key (GUEK)
    AUTHENTICATION = "authentication"  # global authentication key (GAK)
    MASTER = "master"  # key-encrypting key (KEK) of the meter, not the head-end's master key
    LLS = "lls"  # password of low level security
    HLS = "hls"  # secret of HLS mechanisms 3, 4 and 6


#: Allowed lengths in bytes. AES-128 for suites 0 and 1, AES-256 for suite 2; passwords as meters have them.
KEY_LENGTHS: Final[Mapping[KeyPurpose, frozenset[int]]] = MappingProxyType(
    {
        KeyPurpose.ENCRYPTION: frozenset({16, 32}),
        KeyPurpose.AUTHENTICATION: frozenset({16, 32}),
        KeyPurpose.MASTER: frozenset({16, 32}),
        KeyPurpose.LLS: frozenset(range(1, 65)),
        KeyPurpose.HLS: frozenset(range(1, 65)),
    }
)


def check_key(purpose: KeyPurpose, key: bytes) -> None:
    """Raises ValueError for a key of the wrong length; the message never holds the key."""
    if len(key) not in KEY_LENGTHS[purpose]:
        lengths = sorted(KEY_LENGTHS[purpose])
        wanted = "16 or 32" if lengths == [16, 32] else f"{lengths[0]} to {lengths[-1]}"
        raise ValueError(f"a key for {purpose} has {wanted} bytes, this one has {len(key)}")


@dataclass(frozen=True, slots=True)
class NewMeter:
    """What is known of a meter before it has a number of ours.

    ``asset_id`` is the serial number or barcode, the name that people use. ``address`` is the head-end link's
    address in its written form (`schemas.address`), None for meters that only push.
    """

    asset_id: str
    model: str
    system_title: bytes | None = None
    logical_device_name: str | None = None
    address: str | None = None
    feeder: str | None = None
    transformer: str | None = None

    def __post_init__(self) -> None:
        if not self.asset_id or self.asset_id != self.asset_id.strip():
            raise ValueError("asset_id must not be empty and has no blanks around it")
        if self.system_title is not None and len(self.system_title) != 8:
            raise ValueError(f"a system title has 8 bytes, this one has {len(self.system_title)}")


@dataclass(frozen=True, slots=True)
class Meter:
    """A meter as stored, with its state of now. All times are aware, UTC."""

    meter_id: int
    asset_id: str
    model: str
    system_title: bytes | None
    logical_device_name: str | None
    address: str | None
    feeder: str | None
    transformer: str | None
    state: MeterState
    state_since: datetime
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class MeteringPoint:
    """Where energy is metered: billing follows the point, meters come and go."""

    point_id: int
    code: str


@dataclass(frozen=True, slots=True)
class Installation:
    """A meter at a point during [since, until), ``until`` None while there. Registers: OBIS code -> value."""

    installation_id: int
    point_id: int
    meter_id: int
    since: datetime
    until: datetime | None
    start_registers: Mapping[str, Decimal]
    removal_registers: Mapping[str, Decimal] | None


@dataclass(frozen=True, slots=True)
class Ratio:
    """CT/VT ratio of a point during [since, until): primary = metered x ct x vt, applied on read alone."""

    since: datetime
    until: datetime | None
    ct_numerator: Decimal
    ct_denominator: Decimal
    vt_numerator: Decimal = Decimal(1)
    vt_denominator: Decimal = Decimal(1)

    def __post_init__(self) -> None:
        for name in ("ct_numerator", "ct_denominator", "vt_numerator", "vt_denominator"):
            value: Decimal = getattr(self, name)
            if not value.is_finite() or value <= 0:
                raise ValueError(f"{name} must be greater than 0, not {value}")

    @property
    def numerator(self) -> Decimal:
        """Product of both numerators: multiply first, then divide by ``denominator``, and nothing is lost."""
        return self.ct_numerator * self.vt_numerator

    @property
    def denominator(self) -> Decimal:
        """Product of both denominators."""
        return self.ct_denominator * self.vt_denominator
