"""Event logs of any content: each row is an event, and nothing of it is lost."""

import datetime as dt
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from headend.drivers.dlms.events import _Log, _Reading, status_word
from headend.listen.pushed_events import events_of
from headend.store.events import fits, identity, placed
from protocols.dlms import axdr
from protocols.dlms.apdu import EventNotificationRequest
from protocols.dlms.apdu.fields import Raw
from protocols.dlms.axdr import Data
from protocols.dlms.cosem import Attribute
from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.obis import Obis
from protocols.dlms.push_values import Value
from schemas.model import load_model
from tests.property.test_axdr import plain

MODEL = load_model("idis")
NOW = dt.datetime(2026, 3, 10, tzinfo=dt.UTC)
ROLES = ("clock", "code", "duration", "text", "ignored")
moments = st.datetimes(timezones=st.just(dt.UTC)).map(
    lambda moment: axdr.octets(CosemDateTime.from_utc(moment).to_bytes())
)
cells = plain | moments
rows = st.lists(cells, max_size=4).map(lambda cells: axdr.structure(*cells)) | plain


@given(st.lists(st.sampled_from(ROLES), min_size=1, max_size=4), st.lists(rows, max_size=5))
def test_each_row_is_an_event(roles: list[str], table: list[Data]) -> None:
    log = _Log(
        MODEL.events.logs["standard"], tuple((role, f"0-0:96.{n}.0*255") for n, role in enumerate(roles))
    )
    events = _Reading(7, MODEL, log, lambda: NOW, "test").events(table)
    assert len(events) == len(table)
    for row, event in zip(table, events, strict=True):
        identity(placed(event))
        if len(row.value) != len(roles) if row.type is axdr.DataType.STRUCTURE else True:
            assert event.text == axdr.encode(row).hex()
            continue
        for n, (role, cell) in enumerate(zip(roles, row.value, strict=True)):
            kept = role in ("code", "text") and cell.type not in (axdr.DataType.NULL, axdr.DataType.DONT_CARE)
            if kept and event.code is None:
                assert f"0-0:96.{n}.0*255=" in (event.text or "")


@given(plain)
def test_an_alarm_word_is_a_number_or_none(data: Data) -> None:
    word = status_word(data)
    assert word is None or word >= 0


codes = st.sampled_from(
    ["0-0:96.11.0*255", "0-1:96.11.4*255", "0-0:97.98.0*255", "0-0:97.98.21*255", "1-0:1.8.0*255"]
)
told = st.none() | st.text(max_size=8) | st.decimals(allow_nan=True) | st.integers(0, 2**70).map(Decimal)


@given(st.lists(st.tuples(codes, told), max_size=6), st.none() | st.integers(-(2**70), 2**70))
def test_pushes_of_any_values_give_events_that_can_be_kept(pairs: list[Any], meter_us: int | None) -> None:
    message = EventNotificationRequest(None, Attribute(1, Obis.parse("0-0:96.11.0*255"), 2), Raw(b"\x11\x01"))
    values = [Value(Obis.parse(obis), value) for obis, value in pairs]
    now_us = 1_772_323_200_000_000
    for event in events_of(message, values, MODEL, 7, now_us, meter_us):
        assert event.meter_id == 7
        assert fits(placed(event)) or (event.code or 0) >= 2**63
