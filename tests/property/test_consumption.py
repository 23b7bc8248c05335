"""Whatever a meter counts, the consumption of a complete range is what its registers moved by."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from headend.store.consumption import CurveRow, derive, plain
from schemas.reading import Channel, ChannelLayout

T0 = datetime(2026, 3, 1, tzinfo=UTC)
MODULUS = 10_000
LAYOUTS = {
    1: ChannelLayout(
        (Channel("active_import", "1-0:1.8.0*255", -3, "Wh", modulus=MODULUS), None, None, None)
    ),
    2: ChannelLayout((Channel("active_import", "1-0:1.8.0*255", -3, "Wh"), None, None, None)),
}


def curve(readings: list[int], layout: int) -> list[CurveRow]:
    return [
        CurveRow(
            start, start + timedelta(seconds=900), 900, 1, layout, 0, None, None, (reading, None, None, None)
        )
        for n, reading in enumerate(readings)
        for start in [T0 + n * timedelta(seconds=900)]
    ]


@given(st.integers(0, 2**62), st.lists(st.integers(0, 2**40), min_size=1, max_size=50))
def test_sum_is_difference_of_registers(first: int, steps: list[int]) -> None:
    readings = [first]
    for step in steps:
        readings.append(readings[-1] + step)
    rows = curve(readings, 2)
    derived = [a[0].raw for _, a in derive(rows[1:], rows[0], LAYOUTS)]
    assert None not in derived
    assert sum(d for d in derived if d is not None) == readings[-1] - readings[0]


@given(st.integers(0, MODULUS - 1), st.lists(st.integers(0, MODULUS // 2 - 1), min_size=1, max_size=50))
def test_rollover_loses_nothing(first: int, steps: list[int]) -> None:
    readings = [first]
    for step in steps:
        readings.append((readings[-1] + step) % MODULUS)
    rows = curve(readings, 1)
    assert [a[0].raw for _, a in derive(rows[1:], rows[0], LAYOUTS)] == steps


@given(st.lists(st.tuples(st.integers(0, 9000), st.booleans()), min_size=2, max_size=40))
def test_rows_left_out_never_invent_energy(readings: list[tuple[int, bool]]) -> None:
    """Dropping rows only takes amounts away; those that stay are those of the whole curve."""
    rows = curve([r for r, _ in readings], 1)
    whole = dict(zip((r.start for r in rows), (a[0] for _, a in derive(rows, None, LAYOUTS)), strict=True))
    kept = [r for r, (_, keep) in zip(rows, readings, strict=True) if keep]
    for row, amount in derive(kept, None, LAYOUTS):
        assert amount[0].raw is None or amount[0] == whole[row.start]


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-20, 20))
def test_plain_text_is_exact(raw: int, scaler: int) -> None:
    text = plain(raw, scaler)
    assert Decimal(text) == Decimal(raw).scaleb(scaler)
    assert "E" not in text
    assert scaler >= 0 or len(text.split(".")[1]) == -scaler
