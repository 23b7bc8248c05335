import pytest

from headend.keys.transport import TransportError, transport_key, unwrap, wrap
from protocols.dlms.security import Key
from schemas.meter import KeyPurpose

# RFC 3394, 4.1: 128 bits of key data under a 128-bit KEK
KEK = "000102030405060708090A0B0C0D0E0F"
DATA = "00112233445566778899AABBCCDDEEFF"
WRAPPED = "1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5"


def test_the_example_of_the_rfc():
    kek = transport_key(KEK)
    assert unwrap(KeyPurpose.ENCRYPTION, bytes.fromhex(WRAPPED), kek) == Key.from_hex(DATA)
    assert wrap(KeyPurpose.ENCRYPTION, Key.from_hex(DATA), kek).hex().upper() == WRAPPED


@pytest.mark.parametrize("purpose", KeyPurpose)
@pytest.mark.parametrize("length", [1, 8, 16, 32, 64])
def test_every_purpose_comes_back_or_is_refused(purpose, length):
    kek, key = transport_key("ab" * 32), Key(bytes(range(length)))
    if purpose in (KeyPurpose.LLS, KeyPurpose.HLS) or length in (16, 32):
        wrapped = wrap(purpose, key, kek)
        assert unwrap(purpose, wrapped, kek) == key
        for at in range(len(wrapped)):
            changed = bytearray(wrapped)
            changed[at] ^= 1
            with pytest.raises(TransportError, match="does not open"):
                unwrap(purpose, bytes(changed), kek)
        with pytest.raises(TransportError, match="does not open"):
            unwrap(purpose, wrapped[:-1], kek)
    else:
        with pytest.raises(ValueError, match="16 or 32 bytes"):
            wrap(purpose, key, kek)


@pytest.mark.parametrize("text", ["", "00", "zz" * 16, "00" * 24])
def test_wrong_transport_keys(text):
    with pytest.raises(TransportError, match="32 or 64 hexadecimal"):
        transport_key(text)
