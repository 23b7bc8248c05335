"""The prepared way of ciphering gives the bytes of the general one, and opens nothing that that would not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms.ciphering import GLOBAL_TAG, open_apdu, seal_apdu
from protocols.dlms.enums import SecuritySuite
from protocols.dlms.envelope import Envelope
from protocols.dlms.security import CipherKeys, Key
from protocols.errors import LocalProtocolError

TITLE, OTHER = b"METER001", b"METER002"
KEYS = CipherKeys(Key(bytes(range(16))), Key(bytes(range(16, 32))))
BOTH = 0x30


def envelope(keys: CipherKeys = KEYS, title: bytes = TITLE) -> Envelope:
    found = Envelope.of(keys, title)
    assert found is not None
    return found


@given(
    st.sampled_from(sorted(GLOBAL_TAG)),
    st.one_of(st.binary(max_size=300), st.sampled_from([bytes(109), bytes(110), bytes(111), bytes(70_000)])),
    st.sampled_from([0, 1, 255, 0xFFFF_FFFF]),
    st.sampled_from([SecuritySuite.SUITE_0, SecuritySuite.SUITE_2]),
)
def test_it_seals_and_opens_as_the_general_way_does(
    tag: int, rest: bytes, counter: int, suite: SecuritySuite
) -> None:
    size = 32 if suite is SecuritySuite.SUITE_2 else 16
    keys = CipherKeys(Key(bytes(range(size))), Key(bytes(range(size, 2 * size))), suite)
    plain, ours = bytes((tag,)) + rest, envelope(keys)
    sealed = seal_apdu(plain, control=BOTH | suite, counter=counter, system_title=TITLE, keys=keys)
    assert ours.seal(plain, GLOBAL_TAG[tag], counter) == sealed
    opened = ours.open(sealed)
    assert opened is None or opened == (plain, counter)
    if (
        len(sealed) < 128 or 259 < len(sealed) < 0x1_0000
    ):  # lengths in one byte and in two, as messages have them
        assert opened is not None


@given(st.binary(min_size=1, max_size=60), st.data())
def test_whatever_was_changed_is_not_opened(rest: bytes, data: st.DataObject) -> None:
    sealed = envelope().seal(b"\xc4" + rest, 0xCC, 7)
    at = data.draw(st.integers(1, len(sealed) - 1))  # the tag itself is the association's to look at
    bit = data.draw(st.integers(0, 7))
    changed = sealed[:at] + bytes((sealed[at] ^ 1 << bit,)) + sealed[at + 1 :]
    assert envelope().open(changed) is None
    assert envelope().open(sealed[:at]) is None
    assert envelope().open(sealed + rest) is None
    assert envelope(title=OTHER).open(sealed) is None


@pytest.mark.parametrize("control", [0x10, 0x20, 0x31])
def test_other_protection_and_suites_are_left_to_the_general_way(control: int) -> None:
    suite = SecuritySuite(control & 0x0F)
    keys = CipherKeys(KEYS.encryption, KEYS.authentication, suite)
    sealed = seal_apdu(b"\xc4\x01", control=control, counter=1, system_title=TITLE, keys=keys)
    assert open_apdu(sealed, keys=keys, system_title=TITLE).plain == b"\xc4\x01"
    assert envelope().open(sealed) is None


def test_there_is_none_without_title_or_authentication_key() -> None:
    assert Envelope.of(CipherKeys(KEYS.encryption), TITLE) is None
    assert Envelope.of(KEYS, None) is None
    assert Envelope.of(KEYS, b"short") is None


@pytest.mark.parametrize("counter", [-1, 1 << 32])
def test_a_counter_that_is_used_up_seals_nothing(counter: int) -> None:
    with pytest.raises(LocalProtocolError, match="used up"):
        envelope().seal(b"\xc0", 0xC8, counter)
