"""Framing of ciphered APDUs; what is inside is the business of security."""

import pytest

from protocols.dlms import apdu
from protocols.dlms.apdu.ciphered import (
    AgreedKey,
    DedicatedCiphered,
    GeneralCiphering,
    GeneralDedCiphering,
    GeneralGloCiphering,
    GlobalCiphered,
    IdentifiedKey,
    IdentifiedKeyId,
    SecuredBody,
    WrappedKey,
)
from protocols.errors import LocalProtocolError, RemoteProtocolError

BODY = SecuredBody(0x30, 1, b"\xaa" * 13)
BODY_HEX = "3000000001" + "aa" * 13
TITLE = b"HED\0\0\0\0\1"
TITLE_HEX = "08" + TITLE.hex()


def _general(key_info: IdentifiedKey | WrappedKey | AgreedKey | None) -> GeneralCiphering:
    return GeneralCiphering(b"\x07", TITLE, TITLE, b"", b"", key_info, BODY)


CIPHERED = [
    (GlobalCiphered(0xC8, BODY), f"c812{BODY_HEX}"),
    (GlobalCiphered(0xCC, SecuredBody(0x20, 0, b"")), "cc052000000000"),
    (DedicatedCiphered(0xD4, BODY), f"d412{BODY_HEX}"),
    (GeneralGloCiphering(TITLE, BODY), f"db{TITLE_HEX}12{BODY_HEX}"),
    (GeneralDedCiphering(b"", BODY), f"dc0012{BODY_HEX}"),
    (_general(None), f"dd0107{TITLE_HEX}{TITLE_HEX}00000012{BODY_HEX}"),
    (
        _general(IdentifiedKey(IdentifiedKeyId.GLOBAL_UNICAST_ENCRYPTION)),
        f"dd0107{TITLE_HEX}{TITLE_HEX}000001000012{BODY_HEX}",
    ),
    (
        _general(WrappedKey(0, b"\xbb" * 24)),
        f"dd0107{TITLE_HEX}{TITLE_HEX}000001010018{'bb' * 24}12{BODY_HEX}",
    ),
    (_general(AgreedKey(b"\x02", b"\xcc")), f"dd0107{TITLE_HEX}{TITLE_HEX}00000102010201cc12{BODY_HEX}"),
]


@pytest.mark.parametrize(("message", "data"), CIPHERED)
def test_bytes_by_hand(message: apdu.Apdu, data: str) -> None:
    assert apdu.encode(message) == bytes.fromhex(data)
    assert apdu.decode(bytes.fromhex(data)) == message


def test_header_of_general_ciphering_keeps_its_lengths() -> None:
    assert _general(None).header.hex() == f"0107{TITLE_HEX}{TITLE_HEX}0000"


def test_long_bodies() -> None:
    for size in (122, 123, 250, 251, 1019):
        message = GlobalCiphered(0xCC, SecuredBody(0x30, 2**32 - 1, bytes(size)))
        assert apdu.decode(apdu.encode(message)) == message


@pytest.mark.parametrize(
    ("data", "offset", "reason"),
    [
        ("c8", 1, "glo-get-request: cut short before the secured content"),
        ("c80430000000", 6, "glo-get-request: secured content of 4 bytes has no whole security header"),
        ("c8063000000001", 7, "glo-get-request: cut short in the secured content"),
        ("d405300000000100", 7, "ded-get-response: 1 bytes follow"),
        ("db07" + "00" * 7 + "053000000001", 1, "system title of 7 bytes"),
        (f"dd0107{TITLE_HEX}{TITLE_HEX}0000" + "010002" + f"12{BODY_HEX}", 25, "key id 2"),
        (f"dd0107{TITLE_HEX}{TITLE_HEX}0000" + "0103" + f"12{BODY_HEX}", 24, "key info choice 3"),
    ],
)
def test_malformed(data: str, offset: int, reason: str) -> None:
    with pytest.raises(RemoteProtocolError, match=reason) as caught:
        apdu.decode(bytes.fromhex(data))
    assert caught.value.offset == offset


@pytest.mark.parametrize(
    "wrong",
    [
        GlobalCiphered(0xD0, BODY),
        DedicatedCiphered(0xC8, BODY),
        GlobalCiphered(0xC8, SecuredBody(0x30, 2**32, b"")),
        GlobalCiphered(0xC8, SecuredBody(256, 0, b"")),
    ],
)
def test_what_does_not_fit_is_our_fault(wrong: apdu.Apdu) -> None:
    with pytest.raises(LocalProtocolError):
        apdu.encode(wrong)


def test_contents_stay_out_of_repr() -> None:
    assert "aa" not in repr(GlobalCiphered(0xC8, BODY)).replace("\\x", "")
    assert "bb" not in repr(WrappedKey(0, b"\xbb" * 24)).replace("\\x", "")
