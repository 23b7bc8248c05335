"""Ciphered APDUs in every form, opened and sealed; captured messages with their keys."""

import json
from pathlib import Path

import pytest

from protocols.dlms import hdlc
from protocols.dlms.apdu import block_transfer
from protocols.dlms.apdu.ciphered import (
    AgreedKey,
    GeneralCiphering,
    IdentifiedKey,
    IdentifiedKeyId,
    SecuredBody,
    WrappedKey,
)
from protocols.dlms.blocks import GbtReceiver
from protocols.dlms.ciphering import KeyUse, open_apdu, seal_apdu, seal_general_ciphering
from protocols.dlms.framing import Found
from protocols.dlms.security import CipherKeys, Key, wrap_key
from protocols.errors import RemoteProtocolError, SecurityError

FOLDER = Path(__file__).parents[1] / "vectors/dlms"
WRAPPED = json.loads((FOLDER / "general_glo_wrapper.json").read_text())
GREEN = json.loads((FOLDER / "crypto_suite0.json").read_text())
KEYS = CipherKeys(Key(bytes(range(16))), Key(bytes(range(16, 32))))
DEDICATED = CipherKeys(Key(b"d" * 16), Key(bytes(range(16, 32))))
MASTER = Key(b"m" * 16)
TITLE, OURS = b"MTR\0\0\0\0\1", b"HED\0\0\0\0\2"
GET = bytes.fromhex("c001c100080000010000ff0200")


@pytest.mark.parametrize("message", WRAPPED["messages"], ids=range(13))
def test_captured_general_glo(message: dict[str, str]) -> None:
    key = Key.from_hex(WRAPPED["encryption_key_hex"])
    keys = CipherKeys(key, Key.from_hex(WRAPPED["authentication_key_hex"]))
    apdu = bytes.fromhex(message["hex"])[8:]
    opened = open_apdu(apdu, keys=keys)
    assert opened.plain.hex() == message["plain_apdu_hex"]
    assert (opened.control, opened.key_use, opened.tag) == (0x30, KeyUse.GLOBAL, 0xDB)
    sealed = seal_apdu(
        opened.plain,
        control=0x30,
        counter=opened.counter,
        system_title=opened.system_title,
        keys=keys,
        general=True,
    )
    assert sealed == apdu
    with pytest.raises(SecurityError, match="does not verify"):
        open_apdu(apdu, keys=KEYS)


def test_green_book_glo_initiate() -> None:
    case, common = GREEN["gcm"][1], GREEN["common"]
    keys = CipherKeys(
        Key.from_hex(common["encryption_key_hex"]), Key.from_hex(common["authentication_key_hex"])
    )
    title, apdu = bytes.fromhex(case["system_title_hex"]), bytes.fromhex(case["glo_initiate_request_hex"])
    assert open_apdu(apdu, keys=keys, system_title=title).plain.hex() == case["plain_hex"]
    with pytest.raises(SecurityError, match="title is not known"):
        open_apdu(apdu, keys=keys)


@pytest.mark.parametrize("control", [0x10, 0x20, 0x30])
@pytest.mark.parametrize("dedicated", [False, True])
@pytest.mark.parametrize("general", [False, True])
@pytest.mark.parametrize("plain", [GET, b"\xd9access"], ids=["get", "access"])
def test_forms(control: int, *, dedicated: bool, general: bool, plain: bytes) -> None:
    keys = DEDICATED if dedicated else KEYS
    sealed = seal_apdu(
        plain, control=control, counter=9, system_title=TITLE, keys=keys, dedicated=dedicated, general=general
    )
    tag = (0xDC if dedicated else 0xDB) if general or plain != GET else (0xD0 if dedicated else 0xC8)
    opened = open_apdu(sealed, keys=KEYS, dedicated=DEDICATED, system_title=TITLE)
    use = KeyUse.DEDICATED if dedicated else KeyUse.GLOBAL
    assert opened == (plain, control, 9, TITLE, use, tag)
    if dedicated:
        with pytest.raises(SecurityError, match="none is agreed"):
            open_apdu(sealed, keys=KEYS, system_title=TITLE)
    if tag in (0xDB, 0xDC):
        with pytest.raises(SecurityError, match="is the peer"):
            open_apdu(sealed, keys=KEYS, dedicated=DEDICATED, system_title=OURS)
    for changed in (sealed[:-1], sealed + b"\0"):
        with pytest.raises(RemoteProtocolError):
            open_apdu(changed, keys=KEYS, dedicated=DEDICATED, system_title=TITLE)


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("control", [0x10, 0x20, 0x30])
def test_general_ciphering(control: int, *, wrap: bool) -> None:
    session = CipherKeys(Key(b"s" * 16), KEYS.authentication) if wrap else KEYS
    sealed = seal_general_ciphering(
        GET,
        control=control,
        counter=0,
        system_title=TITLE,
        recipient=OURS,
        transaction_id=bytes(8),
        keys=session,
        wrapped=wrap_key(session.encryption, kek=MASTER) if wrap else None,
    )
    opened = open_apdu(sealed, keys=KEYS, our_title=OURS, master_key=MASTER)
    assert opened == (GET, control, 0, TITLE, KeyUse.WRAPPED if wrap else KeyUse.GLOBAL, 0xDD)
    with pytest.raises(SecurityError, match="not for us"):
        open_apdu(sealed, keys=KEYS, our_title=TITLE, master_key=MASTER)
    if wrap:
        with pytest.raises(SecurityError, match="no master key"):
            open_apdu(sealed, keys=KEYS, our_title=OURS)
    if control & 0x10:
        # the header is part of what the tag covers
        changed = sealed.replace(bytes(8), b"\0\0\0\0\0\0\0\1", 1)
        with pytest.raises(SecurityError, match="does not verify"):
            open_apdu(changed, keys=KEYS, our_title=OURS, master_key=MASTER)


@pytest.mark.parametrize(
    ("key_info", "word"),
    [
        (IdentifiedKey(IdentifiedKeyId.GLOBAL_BROADCAST_ENCRYPTION), "broadcast"),
        (WrappedKey(1, bytes(24)), "key-encrypting key 1"),
        (WrappedKey(0, bytes(24)), "wrapped key does not verify"),
        (WrappedKey(0, wrap_key(Key(bytes(32)), kek=MASTER)), "32 bytes, the suite wants 16"),
        (AgreedKey(b"\1", b"x"), "agreed keys"),
    ],
    ids=["broadcast", "kek", "forged", "length", "agreed"],
)
def test_keys_refused_by_name(key_info: IdentifiedKey | WrappedKey | AgreedKey, word: str) -> None:
    frame = GeneralCiphering(b"", TITLE, OURS, b"", b"", key_info, SecuredBody(0x30, 1, bytes(20)))
    with pytest.raises(SecurityError, match=word):
        open_apdu(frame.to_bytes(), keys=KEYS, master_key=MASTER)


def test_refusals() -> None:
    with pytest.raises(RemoteProtocolError, match="empty"):
        open_apdu(b"", keys=KEYS)
    with pytest.raises(SecurityError, match="signing"):
        open_apdu(b"\xdf", keys=KEYS)
    with pytest.raises(RemoteProtocolError, match="not a ciphered one"):
        open_apdu(GET, keys=KEYS)
    with pytest.raises(RemoteProtocolError, match="8 bytes, got 2"):
        open_apdu(bytes.fromhex("db02aabb00"), keys=KEYS)
    set_inside = seal_apdu(b"\xc1set", control=0x20, counter=1, system_title=TITLE, keys=KEYS, general=False)
    with pytest.raises(SecurityError, match="tag 0xc1"):
        open_apdu(b"\xc8" + set_inside[1:], keys=KEYS, system_title=TITLE)
    twice = seal_apdu(set_inside, control=0x30, counter=1, system_title=TITLE, keys=KEYS, general=True)
    with pytest.raises(SecurityError, match="tag 0xc9"):
        open_apdu(twice, keys=KEYS)


def test_captured_push_in_general_blocks() -> None:
    """Landis+Gyr E450: three streamed blocks that nobody acknowledges, ciphered as a whole."""
    capture = json.loads((FOLDER / "gbt_push_e450.json").read_text())
    receiver, whole = GbtReceiver(answering=False), None
    for text in capture["hdlc_frames_hex"]:
        parsed = hdlc.parse(bytes.fromhex(text))
        assert isinstance(parsed, Found)
        _, apdu = hdlc.split_llc(parsed.frame.information)
        answer, whole = receiver.receive(block_transfer.decode(apdu))
        assert answer is None
    assert whole is not None
    assert whole.hex() == capture["ciphered_apdu_hex"].lower()
    keys = CipherKeys(
        Key.from_hex(capture["encryption_key_hex"]), Key.from_hex(capture["authentication_key_hex"])
    )
    opened = open_apdu(whole, keys=keys)
    assert opened.plain.hex() == capture["plain_apdu_hex"].lower()
    assert (opened.counter, opened.control) == (int(capture["invocation_counter"]), 0x30)
