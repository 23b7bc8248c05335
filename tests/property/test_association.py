"""Sessions of every kind give what was asked; late answers never do; forged bytes raise the tree alone."""

import itertools
import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.dlms.apdu.fields import AttributeItem
from protocols.dlms.association import (
    CipherForm,
    CipherSettings,
    ClientAssociation,
    ClientSettings,
    ClientState,
    GetRequested,
    GetResult,
    ServerAssociation,
    ServerSettings,
    SetRequested,
    Stale,
    Transmit,
)
from protocols.dlms.ciphering import open_apdu, seal_apdu
from protocols.dlms.cosem import Attribute
from protocols.dlms.enums import DataAccessResult, Mechanism, SecuritySuite
from protocols.dlms.obis import Obis
from protocols.dlms.security import CipherKeys, Key, PeerCounter, protect, unprotect
from protocols.errors import LocalProtocolError, PeerRefused, RemoteProtocolError

SECRETS = {
    m: Key(b"secret") for m in (Mechanism.LLS, Mechanism.HLS_MD5, Mechanism.HLS_SHA1, Mechanism.HLS_SHA256)
}
MECHANISMS = [*SECRETS, Mechanism.NONE, Mechanism.HLS_GMAC]
CAPTURED = [
    bytes.fromhex(message["hex"])[8:]
    for message in json.loads(
        (Path(__file__).parents[1] / "vectors/dlms/general_glo_wrapper.json").read_text()
    )["messages"]
]


def attribute(number: int) -> Attribute:
    return Attribute(3, Obis.parse(f"1-0:1.8.{number}*255"), 2)


def value(number: int, size: int) -> bytes:
    return b"\x09\x82" + size.to_bytes(2, "big") + bytes([number]) * size


def ciphers(
    suite: SecuritySuite, title: bytes, form: CipherForm, *, dedicated: bool = False
) -> CipherSettings:
    size = 32 if suite is SecuritySuite.SUITE_2 else 16
    return CipherSettings(
        title,
        Key(b"E" * size),
        Key(b"A" * size),
        suite,
        form,
        use_dedicated_key=dedicated,
        master_key=Key(b"M" * size),
    )


@st.composite
def pairs(draw: st.DrawFn) -> tuple[ClientAssociation, ServerAssociation]:
    """A client and a server that fit each other."""
    mechanism = draw(st.sampled_from(MECHANISMS))
    suite = draw(st.sampled_from(SecuritySuite))
    form = draw(st.sampled_from(CipherForm))
    general = form in (CipherForm.GENERAL_CIPHERING, CipherForm.GENERAL_CIPHERING_WRAPPED)
    ciphered = draw(st.booleans()) or mechanism in (Mechanism.HLS_GMAC, Mechanism.HLS_SHA256)
    dedicated = draw(st.booleans()) and not general
    client = ClientSettings(
        mechanism,
        SECRETS.get(mechanism),
        ciphers(suite, b"CLIENT01", form, dedicated=dedicated) if ciphered else None,
        max_pdu=draw(st.sampled_from([0, 200, 512, 1024, 65535])),
        gbt_window=draw(st.sampled_from([None, None, 1, 7])),
    )
    server = ServerSettings(
        frozenset(MECHANISMS),
        SECRETS,
        ciphers(suite, b"METER001", form),
        max_pdu=draw(st.integers(200, 2000)),
        block_size=draw(st.sampled_from([0, 1, 50, 500])),
        gbt_window=draw(st.integers(1, 63)),
        prefer_gbt=draw(st.booleans()),
    )
    counter = itertools.count(draw(st.integers(0, 1000))).__next__
    return (
        ClientAssociation(client, next_counter=counter, peer_counter=PeerCounter()),
        ServerAssociation(server, next_counter=itertools.count(0).__next__),
    )


def answer(server: ServerAssociation, apdu: bytes, size: int = 300) -> list[bytes]:
    out: list[bytes] = []
    for event in server.receive(apdu):
        match event:
            case Transmit(reply):
                out.append(reply)
            case GetRequested(items):
                out += server.respond_get([value(item.attribute.obis.to_bytes()[4], size) for item in items])
            case SetRequested(items, _):
                out += server.respond_set([DataAccessResult.SUCCESS] * len(items))
    return out


def converse(
    client: ClientAssociation, server: ServerAssociation, apdu: bytes, size: int = 300
) -> list[object]:
    queue, learned = [apdu], []
    while queue:
        for reply in answer(server, queue.pop(0), size):
            for event in client.receive(reply):
                if isinstance(event, Transmit):
                    queue.append(event.apdu)
                else:
                    learned.append(event)
    return learned


@given(pairs(), st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3000)), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_what_is_asked_is_what_is_answered(
    pair: tuple[ClientAssociation, ServerAssociation], reads: list[tuple[int, int]]
) -> None:
    client, server = pair
    converse(client, server, client.associate())
    assert client.state is ClientState.ASSOCIATED
    for number, size in reads:
        assert converse(client, server, client.get(attribute(number)), size) == [
            GetResult((value(number, size),))
        ]
    items = [AttributeItem(attribute(number)) for number, _ in reads]
    expected = tuple([value(number, 200) for number, _ in reads])
    assert converse(client, server, client.get_many(items), 200) == [GetResult(expected)]
    converse(client, server, client.release())
    assert client.state is ClientState.IDLE


@given(st.data(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_abandoned_answers_arrive_in_any_order_and_never_answer_another(
    data: st.DataObject, ciphered: bool
) -> None:
    keys = ciphers(SecuritySuite.SUITE_0, b"CLIENT01", CipherForm.SERVICE_SPECIFIC) if ciphered else None
    client = ClientAssociation(ClientSettings(cipher=keys), next_counter=itertools.count(1).__next__)
    meter = ServerSettings(cipher=ciphers(SecuritySuite.SUITE_0, b"METER001", CipherForm.SERVICE_SPECIFIC))
    server = ServerAssociation(meter, next_counter=itertools.count(1).__next__)
    converse(client, server, client.associate())
    late: list[bytes] = []
    for number in range(data.draw(st.integers(1, 14))):
        late += answer(server, client.get(attribute(number % 10)), 10)
        client.abandon()
    wanted = data.draw(st.integers(0, 9))
    (genuine,) = answer(server, client.get(attribute(wanted)), 11)
    arriving = data.draw(st.permutations([*late, genuine]))
    results = []
    for apdu in arriving:
        try:
            events = client.receive(apdu)
        except RemoteProtocolError:
            assert ciphered  # behind the counter: a replay, refused
            continue
        results += [event for event in events if not isinstance(event, Stale)]
    if not ciphered or arriving[-1] == genuine:
        assert results == [GetResult((value(wanted, 11),))]
    assert all(result == GetResult((value(wanted, 11),)) for result in results)


@given(pairs(), st.data())
@settings(max_examples=150, deadline=None)
def test_corrupted_answers_raise_the_tree_or_change_nothing(
    pair: tuple[ClientAssociation, ServerAssociation], data: st.DataObject
) -> None:
    """One byte of one message is changed, anywhere in a session, in either direction."""
    client, server = pair
    strike = data.draw(st.integers(0, 12))
    queue = [client.associate()]
    sent = 0
    try:
        while queue:
            for reply in answer(server, _struck(queue.pop(0), strike, sent, data), 600):
                sent += 1
                events = client.receive(_struck(reply, strike, sent, data))
                queue += [event.apdu for event in events if isinstance(event, Transmit)]
                if client.state is ClientState.ASSOCIATED and sent < 30:
                    queue.append(client.get(attribute(1)))
            sent += 1
            if sent > 60:
                break
    except (RemoteProtocolError, PeerRefused):
        return


def _struck(apdu: bytes, strike: int, sent: int, data: st.DataObject) -> bytes:
    if sent != strike or not apdu:
        return apdu
    position = data.draw(st.integers(0, len(apdu) - 1))
    changed = bytearray(apdu)
    changed[position] ^= data.draw(st.integers(1, 255))
    return bytes(changed[: data.draw(st.integers(1, len(changed)))])


@given(
    st.sampled_from(ClientState), st.one_of(st.binary(max_size=80), st.sampled_from(CAPTURED)), st.booleans()
)
@settings(max_examples=200, deadline=None)
def test_any_bytes_in_any_state(state: ClientState, apdu: bytes, ciphered: bool) -> None:
    keys = ciphers(SecuritySuite.SUITE_0, b"CLIENT01", CipherForm.SERVICE_SPECIFIC) if ciphered else None
    client = ClientAssociation(
        ClientSettings(cipher=keys, gbt_window=2), next_counter=itertools.count(1).__next__
    )
    client.associate()
    client.state = state
    if state is ClientState.ASSOCIATED:
        client.get(attribute(1))
    if state is ClientState.FAILED:
        with pytest.raises(LocalProtocolError):
            client.receive(apdu)
    else:
        with suppress(RemoteProtocolError, PeerRefused):
            client.receive(apdu)
    server = ServerAssociation(ServerSettings(cipher=keys), next_counter=itertools.count(1).__next__)
    for _ in range(2):
        server.receive(apdu)
        fresh = ClientAssociation(ClientSettings(cipher=keys), next_counter=itertools.count(1).__next__)
        server.receive(fresh.associate())


@given(
    st.binary(min_size=1, max_size=300),
    st.sampled_from([0x10, 0x20, 0x30]),
    st.integers(0, 0xFFFF_FFFF),
    st.sampled_from(SecuritySuite),
    st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_protect_and_unprotect(
    plain: bytes, mode: int, counter: int, suite: SecuritySuite, general: bool
) -> None:
    keys = ciphers(suite, b"CLIENT01", CipherForm.SERVICE_SPECIFIC).keys
    secured = protect(plain, control=mode | suite, counter=counter, system_title=b"METER001", keys=keys)
    assert unprotect(secured, system_title=b"METER001", keys=keys) == (plain, mode | suite, counter)
    apdu = b"\xc0" + plain
    sealed = seal_apdu(
        apdu, control=mode | suite, counter=counter, system_title=b"METER001", keys=keys, general=general
    )
    assert open_apdu(sealed, keys=keys, system_title=b"METER001").plain == apdu


@given(st.one_of(st.binary(max_size=60), st.sampled_from(CAPTURED)), st.integers(0, 80), st.integers(0, 255))
@settings(max_examples=200, deadline=None)
def test_any_bytes_to_open(apdu: bytes, position: int, byte: int) -> None:
    changed = bytearray(apdu)
    if changed:
        changed[position % len(changed)] = byte
    keys = CipherKeys(Key(b"MYDUMMYGLOBALKEY"), Key(b"MYDUMMYGLOBALKEY"))
    offset = None
    try:
        open_apdu(
            bytes(changed), keys=keys, dedicated=keys, system_title=b"METER001", master_key=Key(bytes(16))
        )
    except RemoteProtocolError as exc:
        offset = exc.offset
    assert offset is None or 0 <= offset <= len(changed)
