"""Ciphering, key wrap, HLS, replay and policy: against the Green Book's numbers, RFC 3394 and by refusal."""

import copy
import hashlib
import json
import pickle
from pathlib import Path

import pytest

from protocols.dlms.enums import Mechanism, SecuritySuite
from protocols.dlms.hls import Party, check_challenge, prove, verify
from protocols.dlms.security import (
    CipherKeys,
    Key,
    PeerCounter,
    Policy,
    Protection,
    check_policy,
    protect,
    unprotect,
    unwrap_key,
    wrap_key,
)
from protocols.errors import CommunicationError, LocalProtocolError, RemoteProtocolError, SecurityError

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/dlms/crypto_suite0.json").read_text())
COMMON = VECTORS["common"]
KEYS = CipherKeys(Key.from_hex(COMMON["encryption_key_hex"]), Key.from_hex(COMMON["authentication_key_hex"]))
TITLE = b"HED\x00\x00\x00\x00\x01"
PEER = b"MTR\x00\x00\x00\x00\x02"


@pytest.mark.parametrize("case", VECTORS["gcm"], ids=lambda c: c["id"])
def test_green_book_gcm(case: dict[str, str]) -> None:
    title, plain = bytes.fromhex(case["system_title_hex"]), bytes.fromhex(case["plain_hex"])
    counter, control = int(case["invocation_counter"], 16), int(case["security_control"], 16)
    secured = protect(plain, control=control, counter=counter, system_title=title, keys=KEYS)
    assert secured[5:].hex() == case["ciphertext_and_tag_hex"]
    assert unprotect(secured, system_title=title, keys=KEYS) == (plain, control, counter)


@pytest.mark.parametrize("case", VECTORS["hls5_gmac"], ids=lambda c: c["id"])
def test_green_book_gmac(case: dict[str, str]) -> None:
    challenge, counter = bytes.fromhex(case["challenge_hex"]), int(case["invocation_counter"], 16)
    title = bytes.fromhex(case["system_title_hex"])
    expected = bytes.fromhex(case.get("f_StoC_hex") or case["f_CtoS_hex"])
    prover = Party(Mechanism.HLS_GMAC, title, PEER, b"", challenge, keys=KEYS)
    assert prove(prover, lambda: counter) == expected
    verifier = Party(Mechanism.HLS_GMAC, PEER, title, challenge, b"", keys=KEYS)
    verify(verifier, expected)
    for position in range(len(expected)):
        broken = bytearray(expected)
        broken[position] ^= 1
        with pytest.raises(SecurityError):
            verify(verifier, bytes(broken))


@pytest.mark.parametrize(
    ("kek", "key", "wrapped"),
    [
        (
            "000102030405060708090a0b0c0d0e0f",
            "00112233445566778899aabbccddeeff",
            "1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5",
        ),
        (
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
            "00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f",
            "28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21",
        ),
    ],
    ids=["rfc3394-4.1", "rfc3394-4.6"],
)
def test_key_wrap(kek: str, key: str, wrapped: str) -> None:
    assert wrap_key(Key.from_hex(key), kek=Key.from_hex(kek)).hex() == wrapped
    assert unwrap_key(bytes.fromhex(wrapped), kek=Key.from_hex(kek)) == Key.from_hex(key)
    with pytest.raises(SecurityError):
        unwrap_key(bytes.fromhex(wrapped), kek=Key(bytes(16)))
    with pytest.raises(SecurityError):
        unwrap_key(bytes.fromhex(wrapped)[:-1], kek=Key.from_hex(kek))


def keys_of(suite: SecuritySuite) -> CipherKeys:
    size = 32 if suite is SecuritySuite.SUITE_2 else 16
    return CipherKeys(Key(bytes(range(size))), Key(bytes(range(100, 100 + size))), suite)


@pytest.mark.parametrize("suite", SecuritySuite)
@pytest.mark.parametrize("mode", [0x10, 0x20, 0x30])
@pytest.mark.parametrize("counter", [0, 1, 0xFFFF_FFFF])
def test_round_trip_and_every_flipped_byte(suite: SecuritySuite, mode: int, counter: int) -> None:
    keys, plain = keys_of(suite), b"\xc0\x01 payload"
    secured = protect(plain, control=mode | suite, counter=counter, system_title=TITLE, keys=keys)
    assert len(secured) == 5 + len(plain) + (12 if mode & 0x10 else 0)
    assert unprotect(secured, system_title=TITLE, keys=keys).plain == plain
    assert (plain in secured) is (mode == 0x10)
    for position in range(len(secured)):
        broken = bytearray(secured)
        broken[position] ^= 0x01
        if mode & 0x10:
            with pytest.raises(SecurityError):
                unprotect(bytes(broken), system_title=TITLE, keys=keys)
    for cut in range(len(secured)):
        try:
            opened = unprotect(secured[:cut], system_title=TITLE, keys=keys)
        except RemoteProtocolError:
            continue
        assert mode == 0x20
        assert opened.plain == plain[: cut - 5]


@pytest.mark.parametrize(
    ("control", "word"),
    [
        (0xB0, "compression"),
        (0x70, "broadcast"),
        (0x33, "suite 3"),
        (0x31, "suite 1"),
        (0x00, "no protection"),
    ],
)
def test_control_bytes_refused_by_name(control: int, word: str) -> None:
    secured = bytes([control]) + bytes(40)
    with pytest.raises(SecurityError, match=word):
        unprotect(secured, system_title=TITLE, keys=KEYS)
    with pytest.raises(CommunicationError):
        protect(b"", control=control, counter=0, system_title=TITLE, keys=KEYS)


def test_protect_refuses_what_would_be_ours_to_blame() -> None:
    with pytest.raises(LocalProtocolError, match="used up"):
        protect(b"", control=0x30, counter=1 << 32, system_title=TITLE, keys=KEYS)
    with pytest.raises(LocalProtocolError, match="8 bytes"):
        protect(b"", control=0x30, counter=0, system_title=b"short", keys=KEYS)
    with pytest.raises(LocalProtocolError, match="authentication key"):
        protect(b"", control=0x10, counter=0, system_title=TITLE, keys=CipherKeys(Key(bytes(16))))
    with pytest.raises(LocalProtocolError, match="32 bytes, got 16"):
        CipherKeys(Key(bytes(16)), None, SecuritySuite.SUITE_2)
    with pytest.raises(SecurityError, match="title"):
        unprotect(bytes([0x30]) + bytes(40), system_title=b"", keys=KEYS)


def test_extra_additional_data_is_verified() -> None:
    secured = protect(b"x", control=0x30, counter=5, system_title=TITLE, keys=KEYS, extra_aad=b"header")
    assert unprotect(secured, system_title=TITLE, keys=KEYS, extra_aad=b"header").plain == b"x"
    with pytest.raises(SecurityError):
        unprotect(secured, system_title=TITLE, keys=KEYS, extra_aad=b"Header")


def test_keys_stay_dark() -> None:
    key = Key(b"very secret bytes")
    assert "secret" not in f"{key!r} {key} {CipherKeys(Key(b'A' * 16))!r}"
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            leak(key)
    with pytest.raises(TypeError):
        hash(key)
    with pytest.raises(LocalProtocolError) as caught:
        Key.from_hex("00xyzzy")
    assert "xyzzy" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert key == Key(b"very secret bytes")
    assert key != Key(b"other")
    assert key != b"very secret bytes"


@pytest.mark.parametrize("mechanism", [Mechanism.HLS_MD5, Mechanism.HLS_SHA1, Mechanism.HLS_SHA256])
def test_digest_mechanisms_as_the_standard_writes_them(mechanism: Mechanism) -> None:
    secret, ctos, stoc = b"secret", b"client-challenge", b"server-challenge"
    client = Party(mechanism, TITLE, PEER, ctos, stoc, Key(secret))
    server = Party(mechanism, PEER, TITLE, stoc, ctos, Key(secret))
    expected = {
        Mechanism.HLS_MD5: hashlib.md5(stoc + secret, usedforsecurity=False),
        Mechanism.HLS_SHA1: hashlib.sha1(stoc + secret, usedforsecurity=False),
        Mechanism.HLS_SHA256: hashlib.sha256(secret + TITLE + PEER + stoc + ctos),
    }[mechanism].digest()
    proof = prove(client, lambda: 0)
    assert proof == expected
    verify(server, proof)
    answer = prove(server, lambda: 0)
    verify(client, answer)
    assert answer != proof
    with pytest.raises(SecurityError):
        verify(client, proof)


@pytest.mark.parametrize(("mechanism", "word"), [(Mechanism.HLS, "maker"), (Mechanism.HLS_ECDSA, "ECDSA")])
def test_mechanisms_refused_by_name(mechanism: Mechanism, word: str) -> None:
    party = Party(mechanism, TITLE, PEER, b"c" * 8, b"s" * 8, Key(b"x"), KEYS)
    with pytest.raises(SecurityError, match=word):
        prove(party, lambda: 0)
    with pytest.raises(SecurityError, match=word):
        verify(party, b"")


def test_challenges() -> None:
    assert check_challenge(b"12345678", ours=b"abcdefgh") == b"12345678"
    for challenge in (None, b"", b"1234567", bytes(65), b"abcdefgh"):
        with pytest.raises(SecurityError):
            check_challenge(challenge, ours=b"abcdefgh")


def test_replay() -> None:
    counter = PeerCounter()
    counter.accept(0, authenticated=True)
    for replayed in (0,):
        with pytest.raises(SecurityError, match="not above 0"):
            counter.check(replayed)
    counter.accept(7, authenticated=True)
    counter.accept(100, authenticated=False)
    assert (counter.last, counter.proven) == (100, 7)
    with pytest.raises(SecurityError):
        counter.accept(99, authenticated=True)
    with pytest.raises(SecurityError):
        PeerCounter(5).check(5)


def test_policy_of_both_versions() -> None:
    assert [Policy.from_version_0(n).request for n in range(4)] == [0, 0x10, 0x20, 0x30]
    assert Policy.from_version_1(0x04) == Policy(Protection.AUTHENTICATED, Protection.NONE)
    assert Policy.from_version_1(0x40) == Policy(Protection.NONE, Protection.ENCRYPTED)
    assert Policy.from_version_1(0x6C) == Policy.from_version_0(3)
    assert Policy.from_version_1(0) == Policy()
    for value in (0x10, 0x80, 0x01, 0x02, 256, -1):
        with pytest.raises(SecurityError):
            Policy.from_version_1(value)
    for value in (4, -1):
        with pytest.raises(SecurityError):
            Policy.from_version_0(value)


def test_check_policy_names_what_is_missing() -> None:
    check_policy(Protection.NONE, None)
    check_policy(Protection.AUTHENTICATED_ENCRYPTED, 0x31)
    check_policy(Protection.ENCRYPTED, 0x30)
    with pytest.raises(SecurityError, match="authenticated and encrypted"):
        check_policy(Protection.AUTHENTICATED_ENCRYPTED, None)
    with pytest.raises(SecurityError, match=r"not authenticated$"):
        check_policy(Protection.AUTHENTICATED_ENCRYPTED, 0x20)
