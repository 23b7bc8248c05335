"""The objects of a store-and-forward concentrator: our own published model, since no standard has one.

One logical device. Its names are maker-specific OBIS codes (C = 199), so that they collide with nothing::

    0-0:199.0.0*255  Data             directory: the meters, and what is kept of each
    0-0:199.0.1*255  Data             layouts: what the columns of kept profiles are
    0-0:199.0.2*255  Data, write      release: what may be overwritten
    0-0:199.0.3*255  Data, write      meters that shall have the image that it holds
    0-0:199.0.4*255  Data             how far they are (both: `protocols.dlms.distribution`)
    0-p:199.h.l*255  Profile Generic  load profile p (1..) of the meter in slot 256 h + l, rows as the meter
                                      gave them; buffer by range, where bounds are moments: with deviation

What it pushes of its own accord is in `protocols.dlms.forwarded`; a confirm of that releases it, too.

A slot is a meter's for as long as it is in the directory. Stamps are ends of capture periods. What is kept
may be overwritten by newer rows only once it is released, or when the concentrator is full: then ``lost``
counts.
"""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from protocols.dlms import axdr
from protocols.dlms.axdr import Data
from protocols.dlms.cosem import Attribute, CaptureObject, ClassId, ScalerUnit, date_time
from protocols.dlms.cosem.forms import (
    ascii_of,
    elements_of,
    fields_of,
    natural_of,
    natural_within,
    octets_of,
)
from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.obis import Obis
from protocols.errors import RemoteProtocolError
from schemas.address import GatewayAddress
from schemas.network import LinkKind

DIRECTORY: Final = Attribute(ClassId.DATA, Obis.parse("0-0:199.0.0*255"), 2)
LAYOUTS: Final = Attribute(ClassId.DATA, Obis.parse("0-0:199.0.1*255"), 2)
RELEASE: Final = Attribute(ClassId.DATA, Obis.parse("0-0:199.0.2*255"), 2)

_GROUP_C: Final = 199
_MOST_SLOTS: Final = 0x10000
_NOT_KNOWN: Final = 0xFF
_LINKS: Final = tuple(LinkKind)


class Reached(IntEnum):
    """Whether the concentrator reaches a meter."""

    YES = 0
    SILENT = 1


class Column(NamedTuple):
    """A column of a layout; ``scaling`` None where it is no number with a unit."""

    capture: CaptureObject
    scaling: ScalerUnit | None = None


Layout = tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of one load profile of a meter.

    ``layout`` is a place in the layouts, ``oldest`` and ``newest`` stamps, None where there are no rows.
    ``lost`` rows were overwritten before they were released.
    """

    profile: int
    layout: int
    period_s: int
    rows: int
    oldest: dt.datetime | None
    newest: dt.datetime | None
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A meter in the directory.

    ``identity`` is its serial number; ``system_title`` empty where the meter told none; ``kind`` the maker's
    word for what meter it is, empty where nobody knows. ``via`` is the identity of the meter that relays for
    it, empty where the concentrator hears it itself. ``quality`` is 0 to 100, None where it is not measured.
    ``since`` is when it was first reached, or not reached any more.
    """

    slot: int
    identity: str
    system_title: bytes
    kind: str
    address: GatewayAddress
    link: LinkKind | None
    hops: int
    quality: int | None
    via: str
    reached: Reached
    since: dt.datetime | None
    kept: tuple[Kept, ...]


class Release(NamedTuple):
    """Rows of this slot's profile up to and with ``stamp`` may be overwritten."""

    slot: int
    profile: int
    stamp: dt.datetime


def buffer_name(slot: int, profile: int) -> Obis:
    """The logical name of a kept profile."""
    return Obis(bytes((0, profile, _GROUP_C, slot >> 8, slot & 0xFF, 255)))


def slot_of(name: Obis) -> tuple[int, int] | None:
    """Slot and profile of a kept profile's logical name, None for other objects."""
    a, profile, c, high, low, f = name.raw
    return (high << 8 | low, profile) if (a, c, f) == (0, _GROUP_C, 255) and profile else None


# ---- directory ------------------------------------------------------------------------------------------


def encode_directory(entries: Iterable[Entry]) -> bytes:
    """The directory as an attribute."""
    return axdr.encode(axdr.array(_entry(entry) for entry in entries))


def _entry(entry: Entry) -> Data:
    return axdr.structure(
        axdr.u16(entry.slot),
        axdr.octets(entry.identity.encode("ascii")),
        axdr.octets(entry.system_title),
        axdr.octets(entry.kind.encode("ascii")),
        axdr.u8(entry.address.network),
        axdr.octets(entry.address.physical),
        axdr.enum(_NOT_KNOWN if entry.link is None else _LINKS.index(entry.link)),
        axdr.u8(entry.hops),
        axdr.u8(_NOT_KNOWN if entry.quality is None else entry.quality),
        axdr.octets(entry.via.encode("ascii")),
        axdr.enum(entry.reached),
        _stamp(entry.since),
        axdr.array(
            axdr.structure(
                axdr.u8(kept.profile),
                axdr.u8(kept.layout),
                axdr.u32(kept.period_s),
                axdr.u32(kept.rows),
                _stamp(kept.oldest),
                _stamp(kept.newest),
                axdr.u32(kept.lost),
            )
            for kept in entry.kept
        ),
    )


def decode_directory(raw: bytes) -> tuple[Entry, ...]:
    """The meters of a directory.

    Raises RemoteProtocolError for what is no directory, and where two meters have a slot, an identity or an
    address.
    """
    entries = tuple(_read_entry(item) for item in elements_of(axdr.decode_exact(raw), "directory"))
    _check_once((entry.slot for entry in entries), "slot")
    _check_once((entry.identity for entry in entries), "identity")
    _check_once((entry.address for entry in entries), "gateway address")
    return entries


def _read_entry(data: Data) -> Entry:
    fields = fields_of(data, 13, "directory entry")
    slot, identity, title, kind, network, physical, link, hops, quality, via, reached, since, kept = fields
    number = natural_of(link, "link kind")
    measured = natural_of(quality, "quality")
    state = natural_of(reached, "reached")
    address = octets_of(physical, "physical device address")
    title_octets = octets_of(title, "system title")
    if number != _NOT_KNOWN and number >= len(_LINKS):
        raise RemoteProtocolError(f"link kind {number} is none of 0 to {len(_LINKS) - 1}")
    if measured != _NOT_KNOWN and measured > 100:
        raise RemoteProtocolError(f"quality is 0 to 100, not {measured}")
    if state not in tuple(Reached):
        raise RemoteProtocolError(f"reached is 0 or 1, not {state}")
    if len(title_octets) not in (0, 8):
        raise RemoteProtocolError(f"a system title has 8 bytes, this one has {len(title_octets)}")
    if not 0 < len(address) <= 0xFF:
        raise RemoteProtocolError("a meter of the directory has no physical device address")
    name = ascii_of(identity, "identity")
    if not name:
        raise RemoteProtocolError("a meter of the directory has no identity")
    profiles = tuple(_read_kept(item) for item in elements_of(kept, "kept profiles"))
    _check_once((one.profile for one in profiles), "profile")
    return Entry(
        natural_within(slot, "slot", 0, _MOST_SLOTS - 1),
        name,
        title_octets,
        ascii_of(kind, "kind of meter"),
        GatewayAddress(natural_within(network, "network id", 0, 0xFF), address),
        None if number == _NOT_KNOWN else _LINKS[number],
        natural_within(hops, "hops", 1, 0xFF),
        None if measured == _NOT_KNOWN else measured,
        ascii_of(via, "relay"),
        Reached(state),
        _moment(since),
        profiles,
    )


def _read_kept(data: Data) -> Kept:
    profile, layout, period, rows, oldest, newest, lost = fields_of(data, 7, "kept profile")
    found = Kept(
        natural_within(profile, "profile", 1, 0xFF),
        natural_of(layout, "layout"),
        natural_of(period, "capture period"),
        natural_of(rows, "rows"),
        _moment(oldest),
        _moment(newest),
        natural_of(lost, "lost rows"),
    )
    if found.rows and (found.oldest is None or found.newest is None or found.oldest > found.newest):
        raise RemoteProtocolError(f"profile {found.profile} has {found.rows} rows and no oldest and newest")
    return found


# ---- layouts and release --------------------------------------------------------------------------------


def encode_layouts(layouts: Iterable[Layout]) -> bytes:
    """The layouts as an attribute."""
    return axdr.encode(
        axdr.array(
            axdr.array(
                axdr.structure(
                    column.capture.encode(),
                    axdr.NULL if column.scaling is None else column.scaling.encode(),
                )
                for column in layout
            )
            for layout in layouts
        )
    )


def decode_layouts(raw: bytes) -> tuple[Layout, ...]:
    """The layouts. Raises RemoteProtocolError."""
    return tuple(
        tuple(_read_column(column) for column in elements_of(layout, "layout"))
        for layout in elements_of(axdr.decode_exact(raw), "layouts")
    )


def _read_column(data: Data) -> Column:
    capture, scaling = fields_of(data, 2, "column of a layout")
    known = None if scaling == axdr.NULL else ScalerUnit.decode(scaling)
    return Column(CaptureObject.decode(capture), known)


def encode_release(releases: Iterable[Release]) -> bytes:
    """Releases as the value that is written."""
    return axdr.encode(
        axdr.array(
            axdr.structure(axdr.u16(one.slot), axdr.u8(one.profile), _stamp(one.stamp)) for one in releases
        )
    )


def decode_release(raw: bytes) -> tuple[Release, ...]:
    """Releases out of a written value. Raises RemoteProtocolError."""
    found = []
    for item in elements_of(axdr.decode_exact(raw), "releases"):
        slot, profile, stamp = fields_of(item, 3, "release")
        moment = _moment(stamp)
        if moment is None:
            raise RemoteProtocolError("a release has no stamp")
        found.append(Release(natural_of(slot, "slot"), natural_of(profile, "profile"), moment))
    return tuple(found)


# ---- parts ----------------------------------------------------------------------------------------------


def _stamp(moment: dt.datetime | None) -> Data:
    return axdr.octets(b"" if moment is None else CosemDateTime.from_utc(moment).to_bytes())


def _moment(data: Data) -> dt.datetime | None:
    stamp = date_time(data)
    return None if stamp is None else stamp.to_utc()


def _check_once(values: Iterable[object], what: str) -> None:
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise RemoteProtocolError(f"{what} {value} is there twice")
        seen.add(value)
