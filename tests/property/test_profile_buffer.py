"""The view and the general decoder give identical columns, for random layouts and rows, damaged ones too."""

import datetime as dt
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.dlms import axdr, profile_view
from protocols.dlms.axdr import CompactArray, Data, DataType, TypeDescription
from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.profile_buffer import (
    BufferLayout,
    Column,
    NullRule,
    Role,
    decode_buffer,
    decode_buffer_general,
    decode_buffers,
)
from protocols.errors import RemoteProtocolError

T = DataType
_INTEGERS = {
    T.INTEGER: (-128, 127), T.LONG: (-(2**15), 2**15 - 1), T.DOUBLE_LONG: (-(2**31), 2**31 - 1),
    T.LONG64: (-(2**63), 2**63 - 1), T.UNSIGNED: (0, 255), T.LONG_UNSIGNED: (0, 65535),
    T.DOUBLE_LONG_UNSIGNED: (0, 2**32 - 1), T.LONG64_UNSIGNED: (0, 2**64 - 1), T.ENUM: (0, 255),
}  # fmt: skip
_FIXED_OTHER = [T.BOOLEAN, T.FLOAT32, T.DATE, T.BCD, T.LONG64, T.NULL]

zones = st.sampled_from([None, ZoneInfo("Europe/Berlin"), ZoneInfo("Europe/Dublin")])


def integers(kind):
    low, high = _INTEGERS[kind]
    return st.sampled_from([low, high, 0]) | st.integers(low, high)


@st.composite
def layouts(draw):
    roles = draw(st.lists(st.sampled_from([Role.VALUE, Role.VALUE, Role.OTHER]), max_size=5))
    if draw(st.booleans()):
        roles.append(Role.STATUS)
    roles.append(Role.CLOCK)
    return BufferLayout(
        tuple(Column(role, draw(st.sampled_from(NullRule))) for role in draw(st.permutations(roles))),
        draw(st.sampled_from([0, 60, 900, 3600])),
        descending=draw(st.booleans()),
        zone=draw(zones),
        follows_dst=draw(st.booleans()),
        inverted_deviation=draw(st.booleans()),
    )


@st.composite
def column_kinds(draw, layout):
    """What each column sends in a regular buffer."""
    kinds = []
    for column in layout.columns:
        if column.role is Role.CLOCK:
            kinds.append(draw(st.sampled_from([T.OCTET_STRING, T.DATE_TIME])))
        elif column.role is Role.OTHER:
            kinds.append(draw(st.sampled_from(_FIXED_OTHER)))
        else:
            kinds.append(draw(st.sampled_from([*_INTEGERS, T.NULL])))
    return kinds


@st.composite
def stamps(draw, rows):
    """Date-times of a profile, with the repeated hour, without deviation, in steps or anywhere."""
    start = draw(
        st.datetimes(dt.datetime(1999, 12, 30), dt.datetime(2030, 1, 1))  # noqa: DTZ001 - hypothesis wants naive
        | st.just(dt.datetime(2026, 10, 24, 23, 30))  # noqa: DTZ001
    ).replace(tzinfo=dt.UTC)
    step = draw(st.sampled_from([900, -900, 3600, 0, 86_400]))
    zone = draw(zones)
    open_deviation = draw(st.booleans())
    open_status = draw(st.booleans())
    out = []
    for row in range(rows):
        moment = start + dt.timedelta(seconds=step * row)
        made = (
            CosemDateTime.from_zone(moment, zone, deviation=not open_deviation)
            if zone is not None
            else CosemDateTime.from_utc(moment, draw(st.sampled_from([0, -60, 840, -840])))
        )
        raw = bytearray(made.to_bytes())
        if open_status:
            raw[11] = 0xFF
        if draw(st.integers(0, 9)) == 0:
            raw[draw(st.sampled_from([4, 8, 11]))] = draw(st.sampled_from([0xFF, 1]))
        out.append(bytes(raw))
    return out


def _other(draw, kind):
    if kind is T.NULL:
        return axdr.NULL
    if kind is T.BOOLEAN:
        return axdr.boolean(draw(st.booleans()))
    if kind is T.FLOAT32:
        return Data(kind, axdr.Real(draw(st.binary(min_size=4, max_size=4))))
    if kind is T.DATE:
        return Data(kind, draw(st.binary(min_size=5, max_size=5)))
    return Data(kind, draw(st.integers(0, 255)))


odd_cells = st.sampled_from(
    [axdr.NULL, axdr.u8(7), axdr.u64(2**64 - 1), axdr.float64(0.1), axdr.octets(b"x"), axdr.visible("A"),
     Data(T.DONT_CARE, None), Data(T.DELTA_INTEGER, -3), Data(T.DELTA_DOUBLE_LONG_UNSIGNED, 9),
     axdr.structure(axdr.u8(1))]
)  # fmt: skip


@st.composite
def buffers(draw, layout):
    rows = draw(st.integers(0, 8))
    kinds = draw(column_kinds(layout))
    clocks = draw(stamps(rows))
    irregular = draw(st.booleans())
    table = []
    for row in range(rows):
        cells = []
        for column, kind in zip(layout.columns, kinds, strict=True):
            if irregular and draw(st.integers(0, 3)) == 0:
                cells.append(axdr.NULL if column.role is Role.CLOCK else draw(odd_cells))
            elif column.role is Role.CLOCK:
                cells.append(Data(kind, clocks[row]))
            elif column.role is Role.OTHER:
                cells.append(_other(draw, kind))
            else:
                cells.append(axdr.NULL if kind is T.NULL else Data(kind, draw(integers(kind))))
        table.append(axdr.structure(*cells))
    if not irregular and rows and draw(st.integers(0, 3)) == 0:
        description = TypeDescription(T.STRUCTURE, 0, tuple(TypeDescription(kind) for kind in kinds))
        return axdr.encode(Data(T.COMPACT_ARRAY, CompactArray.of(description, table)))
    return axdr.encode(axdr.array(table))


def outcome(decode, raw, layout):
    """The columns as plain lists, or the refusal."""
    try:
        found = decode(raw, layout)
    except RemoteProtocolError as exc:
        return exc.reason, exc.offset
    return plain(found)


def plain(found):
    columns = [found.stamp_us, found.deviation_min, found.clock_status, found.values, found.valid]
    if found.status is not None:
        columns.append(found.status)
    return [(column.dtype, column.shape, column.tolist()) for column in columns], found.exceptions


@st.composite
def cases(draw):
    layout = draw(layouts())
    return layout, draw(st.lists(buffers(layout), min_size=1, max_size=3))


@given(cases())
@settings(max_examples=300, deadline=None)
def test_both_decoders_agree(case):
    layout, raws = case
    # twice: the second time the view meets the templates of the first
    for raw in raws + raws:
        assert outcome(decode_buffer, raw, layout) == outcome(decode_buffer_general, raw, layout)


@given(cases())
@settings(max_examples=150, deadline=None)
def test_a_batch_is_its_buffers_one_after_another(case):
    layout, raws = case
    good = [raw for raw in raws if not isinstance(outcome(decode_buffer_general, raw, layout)[0], str)]
    columns, counts = decode_buffers(good + good, layout)
    if good:
        parts = [decode_buffer_general(raw, layout) for raw in good + good]
        assert counts == [len(part) for part in parts]
        assert plain(columns) == plain(profile_view.concatenate(parts))


@given(cases(), st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), min_size=1, max_size=3))
@settings(max_examples=300, deadline=None)
def test_damaged_buffers_too_and_nothing_but_our_error(case, damage):
    layout, raws = case
    for raw in raws:
        outcome(decode_buffer, raw, layout)  # the template of the good one is warm
        bad = bytearray(raw)
        for at, octet in damage:
            bad[at % len(bad)] = octet
        general = outcome(decode_buffer_general, bytes(bad), layout)
        assert outcome(decode_buffer, bytes(bad), layout) == general
        if not isinstance(general[0], str):
            batch, _ = decode_buffers([bytes(bad)] * 2, layout)
            once = decode_buffer_general(bytes(bad), layout)
            assert plain(batch) == plain(profile_view.concatenate([once, once]))


@given(layouts(), st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_bytes(layout, raw):
    assert outcome(decode_buffer, raw, layout) == outcome(decode_buffer_general, raw, layout)
