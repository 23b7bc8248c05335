# ruff: noqa: DTZ001 - hypothesis wants naive bounds
import datetime as dt
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.dlms.cosem_time import ClockStatus, CosemDate, CosemDateTime, CosemTime
from protocols.errors import RemoteProtocolError

moments = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1), timezones=st.just(dt.UTC)).map(
    lambda moment: moment.replace(microsecond=moment.microsecond // 10_000 * 10_000)
)
zones = st.sampled_from(["Europe/Berlin", "Europe/Dublin", "Australia/Lord_Howe", "UTC", "Asia/Kolkata"]).map(
    ZoneInfo
)


@given(moments, st.integers(-840, 840), st.booleans())
def test_utc_round_trip(moment, deviation, inverted):
    made = CosemDateTime.from_utc(moment, deviation, inverted_deviation=inverted)
    read = CosemDateTime.from_bytes(made.to_bytes())
    assert read == made
    assert read.to_utc(inverted_deviation=inverted) == moment


@given(st.datetimes(dt.datetime(1990, 1, 1), dt.datetime(2060, 1, 1), timezones=st.just(dt.UTC)), zones)
@settings(deadline=None)
def test_zone_round_trip_by_the_dst_bit(moment, zone):
    moment = moment.replace(second=0, microsecond=0)
    read = CosemDateTime.from_bytes(CosemDateTime.from_zone(moment, zone, deviation=False).to_bytes())
    assert read.to_utc(zone=zone) == moment


octets = st.one_of(st.integers(0, 255), st.sampled_from([0xFF, 0xFD, 0xFE, 0, 1, 12, 28, 31, 59]))


@given(st.lists(octets, min_size=12, max_size=12).map(bytes), zones)
def test_any_twelve_octets(raw, zone):
    try:
        read = CosemDateTime.from_bytes(raw)
    except RemoteProtocolError as exc:
        assert exc.offset in range(12)  # noqa: PT017
        return
    assert read.to_bytes() == raw
    assert str(read)
    try:
        assert read.to_utc(zone=zone).tzinfo is dt.UTC
    except RemoteProtocolError:
        return


@given(st.binary(max_size=14))
def test_any_bytes(raw):
    for cls in (CosemDate, CosemTime, CosemDateTime):
        try:
            assert cls.from_bytes(raw).to_bytes() == raw
        except RemoteProtocolError:
            continue


def test_flags_survive():
    for octet in range(255):
        raw = bytes.fromhex("07ea0302010c0f1e000000") + bytes([octet])
        read = CosemDateTime.from_bytes(raw)
        assert read.status == ClockStatus(octet)
        assert read.to_bytes() == raw
