"""The objects of a concentrator that stores and forwards: round trips, and any bytes are read or refused."""

import datetime as dt
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms import axdr, forwarded, store_forward
from protocols.dlms.cosem import CaptureObject, ScalerUnit
from protocols.dlms.forwarded import Forwarded, Rows
from protocols.dlms.obis import Obis
from protocols.dlms.store_forward import Column, Entry, Kept, Reached, Release
from protocols.errors import RemoteProtocolError
from schemas.address import GatewayAddress
from schemas.network import LinkKind

moments = st.integers(946_684_800, 4_070_908_800).map(lambda at: dt.datetime.fromtimestamp(at, dt.UTC))
names = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=64)
small = st.integers(0, 0xFFFF_FFFF)


@st.composite
def kept(draw, profile):
    rows = draw(small)
    oldest, newest = sorted((draw(moments), draw(moments)))
    if not rows:
        oldest = newest = None
    return Kept(profile, draw(st.integers(0, 255)), draw(small), rows, oldest, newest, draw(small))


@st.composite
def directories(draw):
    slots = draw(st.lists(st.integers(0, 0xFFFF), max_size=4, unique=True))
    return [
        Entry(
            slot,
            f"{slot}{draw(names)}"[:64],
            draw(st.sampled_from([b"", bytes(8)])),
            draw(names),
            GatewayAddress(draw(st.integers(0, 255)), slot.to_bytes(2, "big") + draw(st.binary(max_size=9))),
            draw(st.sampled_from([None, *LinkKind])),
            draw(st.integers(1, 255)),
            draw(st.one_of(st.none(), st.integers(0, 100))),
            draw(names),
            draw(st.sampled_from(Reached)),
            draw(st.one_of(st.none(), moments)),
            tuple(draw(kept(n)) for n in draw(st.sets(st.integers(1, 255), max_size=3))),
        )
        for slot in slots
    ]


@given(directories())
def test_a_directory_comes_back_as_it_was(entries):
    if len({entry.identity for entry in entries}) == len(entries):
        assert list(store_forward.decode_directory(store_forward.encode_directory(entries))) == entries


@given(
    st.lists(
        st.lists(
            st.builds(
                Column,
                st.builds(
                    CaptureObject,
                    st.integers(0, 0xFFFF),
                    st.binary(min_size=6, max_size=6).map(Obis),
                    st.integers(-128, 127),
                    st.integers(0, 0xFFFF),
                ),
                st.one_of(st.none(), st.builds(ScalerUnit, st.integers(-128, 127), st.integers(0, 255))),
            ),
            max_size=5,
        ).map(tuple),
        max_size=3,
    ).map(tuple)
)
def test_layouts_come_back_as_they_were(layouts):
    assert store_forward.decode_layouts(store_forward.encode_layouts(layouts)) == layouts


@given(st.lists(st.builds(Release, st.integers(0, 0xFFFF), st.integers(1, 255), moments)).map(tuple))
def test_releases_come_back_as_they_were(releases):
    assert store_forward.decode_release(store_forward.encode_release(releases)) == releases


@given(
    st.builds(
        Forwarded,
        names,
        st.just(((Column(CaptureObject(8, Obis.parse("0-0:1.0.0*255"), 2)),),)),
        st.lists(
            st.builds(
                Rows,
                names,
                st.integers(1, 255),
                st.integers(0, 255),
                small,
                st.lists(small.map(axdr.u32)).map(lambda items: axdr.encode(axdr.array(items))),
            )
        ).map(tuple),
    )
)
def test_a_push_comes_back_as_it_was(push):
    assert forwarded.read_forwarded(axdr.decode_exact(forwarded.encode_forwarded(push))) == push


@given(st.lists(st.sampled_from([axdr.NULL, axdr.u8(1), axdr.array(()), axdr.octets(b"DC-1")]), max_size=5))
def test_a_body_with_its_name_is_a_push_or_refused(fields):
    assert forwarded.read_forwarded(axdr.structure(*fields)) is None
    body = axdr.structure(axdr.octets(forwarded.NAME.raw), *fields)
    with suppress(RemoteProtocolError):
        assert forwarded.read_forwarded(body).identity in ("", "DC-1")


@given(st.integers(0, 0xFFFF), st.integers(1, 255))
def test_a_slot_is_in_its_profiles_name(slot, profile):
    assert store_forward.slot_of(store_forward.buffer_name(slot, profile)) == (slot, profile)


@pytest.mark.parametrize("name", ["0-0:199.0.0*255", "1-1:199.0.0*255", "0-1:198.0.0*255", "0-1:199.0.0*254"])
def test_other_names_are_no_slots(name):
    assert store_forward.slot_of(Obis.parse(name)) is None


@given(st.binary(max_size=200), st.sampled_from(["directory", "layouts", "release"]))
def test_any_bytes_are_read_or_refused(raw, what):
    with suppress(RemoteProtocolError):
        getattr(store_forward, f"decode_{what}")(raw)


ENTRY = Entry(
    7, "A1", b"", "", GatewayAddress(0, b"\1"), None, 1, None, "", Reached.YES, None, ()
)  # fmt: skip


KEPT_WITHOUT_STAMPS = axdr.structure(
    axdr.u8(1), axdr.u8(0), axdr.u32(900), axdr.u32(1), axdr.octets(b""), axdr.octets(b""), axdr.u32(0)
)


def changed(place, value):
    """A directory of one entry with one field written wrongly."""
    (entry,) = axdr.decode_exact(store_forward.encode_directory([ENTRY])).value
    fields = list(entry.value)
    fields[place] = value
    return axdr.encode(axdr.array([axdr.structure(*fields)]))


@pytest.mark.parametrize(
    ("place", "value", "why"),
    [
        (0, axdr.u32(0x10000), "slot is 0 to 65535, not 65536"),
        (1, axdr.octets(b""), "no identity"),
        (1, axdr.octets(b"a b"), "identity is not of at most 64 printable"),
        (1, axdr.octets(b"x" * 65), "identity is not of at most 64 printable"),
        (2, axdr.octets(bytes(7)), "system title has 8 bytes, this one has 7"),
        (4, axdr.u16(256), "network id is 0 to 255, not 256"),
        (5, axdr.octets(b""), "no physical device address"),
        (6, axdr.enum(7), "link kind 7"),
        (7, axdr.u8(0), "hops is 1 to 255, not 0"),
        (8, axdr.u8(101), "quality is 0 to 100, not 101"),
        (10, axdr.enum(2), "reached is 0 or 1, not 2"),
        (12, axdr.array([KEPT_WITHOUT_STAMPS]), "has 1 rows and no oldest"),
    ],
)
def test_an_entry_that_cannot_be_is_refused_by_its_field(place, value, why):
    with pytest.raises(RemoteProtocolError, match=why):
        store_forward.decode_directory(changed(place, value))


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"identity": "A2", "address": GatewayAddress(0, b"\2")}, "slot 7 is there twice"),
        ({"slot": 8, "address": GatewayAddress(0, b"\2")}, "identity A1 is there twice"),
        ({"slot": 8, "identity": "A2"}, "gateway address 0:01 is there twice"),
    ],
)
def test_two_meters_share_nothing(other, why):
    raw = store_forward.encode_directory([ENTRY, replace(ENTRY, **other)])
    with pytest.raises(RemoteProtocolError, match=why):
        store_forward.decode_directory(raw)
