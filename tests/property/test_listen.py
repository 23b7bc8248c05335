"""Whatever is pushed is explained or kept, and nothing else happens."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headend.listen.directory import Known
from headend.listen.heartbeat import Claim
from headend.listen.push_stream import Payload
from headend.listen.recognise import Context, Explained, Kept, Recogniser
from protocols.dlms import ciphering
from protocols.dlms.framing import APDU_TAGS, Framing
from protocols.dlms.security import CipherKeys, Key
from schemas.meter import Meter, MeterState
from schemas.model import load_model, model_names
from schemas.reading import Quality

CAPTURES = Path(__file__).parents[1] / "vectors" / "captures"
APDUS = [
    bytes.fromhex(text).removeprefix(b"\xe6\xe7\x00")
    for name in ("han_nordic", "push_dumps", "mbus_austria")
    for entry in json.loads((CAPTURES / f"{name}.json").read_text())["entries"]
    if (text := entry.get("plain_apdu_hex") or entry.get("llc_apdu_hex") or entry.get("apdu_hex"))
]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
TITLE = b"HED\0\0\0\0\7"
KEYS = CipherKeys(Key(b"e" * 16), Key(b"a" * 16))


def known(number, asset_id, model, cipher=None):
    meter = Meter(
        number, asset_id, model, TITLE, None, None, None, None, MeterState.COMMISSIONED, NOW, NOW, NOW
    )
    return Known(meter, load_model(model), cipher, "no keys", None, b"key" if cipher else None)


class Fleet:
    """A directory in which every name is a meter."""

    def __init__(self, model="aidon"):
        self.model = model

    def models(self):
        return tuple(load_model(name) for name in model_names())

    async def by_title(self, title):
        return known(1, "T", self.model, KEYS) if title == TITLE else None

    async def again(self, title):
        return await self.by_title(title)

    async def by_names(self, names):
        return tuple(known(n, name, self.model) for n, name in enumerate(sorted(names)))

    async def by_number(self, number):
        return known(number, "N", self.model)

    async def by_claim(self, claim: Claim):
        return None


def explain(apdu, model="aidon", context=None, line=(Framing.HDLC, 1, 2)):
    recogniser = Recogniser(Fleet(model))
    asyncio.run(recogniser.claim_of(Payload(apdu, line)))
    return asyncio.run(recogniser.explain(Payload(apdu, line), context, 1_767_225_600_000_000))


def check(outcome):
    if isinstance(outcome, Kept):
        assert outcome.reason.isprintable()
        assert outcome.identity is None or outcome.identity.isprintable()
        return
    assert isinstance(outcome, Explained)
    assert outcome.registers
    for read in outcome.registers:
        assert (read.value is None) != (read.text is None)
        assert read.quality is Quality.PUSHED


@st.composite
def mutated(draw):
    apdu = bytearray(draw(st.sampled_from(APDUS)))
    for _ in range(draw(st.integers(0, 4))):
        apdu[draw(st.integers(0, len(apdu) - 1))] = draw(st.integers(0, 255))
    return bytes(apdu[: draw(st.integers(1, len(apdu)))]) if draw(st.booleans()) else bytes(apdu)


tagged = st.builds(
    lambda tag, rest: bytes((tag,)) + rest, st.sampled_from(sorted(APDU_TAGS)), st.binary(max_size=60)
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(tagged, mutated()), st.sampled_from(["aidon", "kaifa-ma304", "egd", "headend-sim"]))
def test_plain_bytes(apdu, model):
    check(explain(apdu, model, Context()))
    check(explain(apdu, model, None))


@settings(max_examples=200, deadline=None)
@given(st.one_of(tagged, mutated()), st.sampled_from([0x10, 0x20, 0x30]), st.booleans())
def test_ciphered_bytes(plain, control, spoilt):
    try:
        sealed = ciphering.seal_apdu(
            plain, control=control, counter=5, system_title=TITLE, keys=KEYS, general=True
        )
    except ValueError:
        return
    if spoilt:
        sealed = sealed[:-1] + bytes((sealed[-1] ^ 1,))
    outcome = explain(sealed, "kaifa-ma309")
    check(outcome)
    if spoilt and control & 0x10:
        assert isinstance(outcome, Kept)
    if isinstance(outcome, Explained):
        assert outcome.counter is not None
        assert outcome.counter.value == 5


@pytest.mark.parametrize("apdu", APDUS)
def test_a_message_cut_anywhere(apdu):
    for end in range(1, len(apdu), 7):
        check(explain(apdu[:end], "aidon", Context()))


def test_a_connection_that_tells_of_two_meters_is_nobodys():
    context = Context()
    context.told("line", 1)
    context.told("line", 1)
    assert (context.lines, context.meter_id, context.several) == ({"line"}, 1, False)
    context.told("other", 2)
    context.told("line", 1)
    assert context.several
    for line in range(1000):
        context.told(line, 1)
    assert len(context.lines) == 256
