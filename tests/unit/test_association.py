"""Client against server over every mechanism, form and block size; and what each state must refuse."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from protocols.dlms.apdu import acse, exceptions, get, initiate
from protocols.dlms.apdu.access import AccessAction, AccessGet, AccessSet
from protocols.dlms.apdu.fields import INVOKE, AttributeItem, Raw, Selection
from protocols.dlms.association import (
    CLIENT_CONFORMANCE,
    AccessDone,
    AccessRequested,
    ActionDone,
    ActionRequested,
    Associated,
    CipherForm,
    CipherSettings,
    ClientAssociated,
    ClientAssociation,
    ClientEvent,
    ClientReleased,
    ClientSettings,
    ClientState,
    GetRequested,
    GetResult,
    MethodOutcome,
    Notification,
    Refused,
    Released,
    ServerAssociation,
    ServerSettings,
    ServerState,
    SetRequested,
    SetResult,
    Stale,
    Transmit,
    client_setup,
)
from protocols.dlms.association.states import CLIENT_TRANSITIONS, SERVER_TRANSITIONS, ClientInput, mermaid
from protocols.dlms.ciphering import open_apdu
from protocols.dlms.cosem import Attribute, Method
from protocols.dlms.enums import (
    AcseDiagnostic,
    ActionResult,
    ApplicationContext,
    AssociationResult,
    Conformance,
    DataAccessResult,
    Mechanism,
    SecuritySuite,
)
from protocols.dlms.obis import Obis
from protocols.dlms.security import Key, PeerCounter, Policy, Protection
from protocols.errors import (
    AssociationRejected,
    ExceptionResponse,
    LocalProtocolError,
    RemoteProtocolError,
    SecurityError,
    ServiceRefused,
)

CLOCK = Attribute(8, Obis.parse("0-0:1.0.0*255"), 2)
PROFILE = Attribute(7, Obis.parse("1-0:99.1.0*255"), 2)
COUNTER = Attribute(1, Obis.parse("0-0:43.1.0*255"), 2)
MISSING = Attribute(3, Obis.parse("1-0:9.9.9*255"), 2)
METHOD = Method(9, Obis.parse("0-0:10.0.0*255"), 1)
LONG = b"\x09\x82\x0f\xa0" + bytes(range(250)) * 16
VALUES = {CLOCK: b"\x06\0\0\0\1", PROFILE: LONG, COUNTER: b"\x06\0\0\0\7"}
SECRET = Key(b"a shared secret!")


def cipher(title: bytes, suite: SecuritySuite = SecuritySuite.SUITE_0, **more: object) -> CipherSettings:
    size = 32 if suite is SecuritySuite.SUITE_2 else 16
    return CipherSettings(
        title, Key(b"E" * size), Key(b"A" * size), suite, master_key=Key(b"M" * size), **more
    )  # type: ignore[arg-type]


class Meter:
    """A server with a little application behind it; ``answer`` gives the APDUs for one request APDU."""

    def __init__(self, settings: ServerSettings, last: int | None = None) -> None:
        self.association = ServerAssociation(
            settings, next_counter=itertools.count(500).__next__, peer_counter=PeerCounter(last)
        )
        self.log: list[object] = []
        self.written: dict[object, bytes] = {}

    def answer(self, apdu: bytes) -> list[bytes]:
        out: list[bytes] = []
        for event in self.association.receive(apdu):
            self.log.append(event)
            match event:
                case Transmit(reply):
                    out.append(reply)
                case GetRequested(items):
                    out += self.association.respond_get([self.read(item) for item in items])
                case SetRequested(items, values):
                    self.written |= dict(zip([item.attribute for item in items], values, strict=True))
                    results = [
                        DataAccessResult.OBJECT_UNDEFINED
                        if item.attribute == MISSING
                        else DataAccessResult.SUCCESS
                        for item in items
                    ]
                    out += self.association.respond_set(results)
                case ActionRequested(_, parameters):
                    out += self.association.respond_action(
                        [MethodOutcome(ActionResult.SUCCESS, raw) for raw in parameters]
                    )
                case AccessRequested(specs, _):
                    out += self.association.respond_access(
                        [VALUES[CLOCK] if isinstance(spec, AccessGet) else None for spec in specs],
                        [DataAccessResult.SUCCESS] * len(specs),
                    )
        return out

    def read(self, item: AttributeItem) -> bytes | DataAccessResult:
        return VALUES.get(item.attribute, DataAccessResult.OBJECT_UNDEFINED)


def client_of(settings: ClientSettings, last: int | None = None) -> ClientAssociation:
    return ClientAssociation(
        settings, next_counter=itertools.count(1).__next__, peer_counter=PeerCounter(last)
    )


def talk(client: ClientAssociation, meter: Meter, apdu: bytes) -> list[ClientEvent]:
    """Carry APDUs to and fro until nobody has anything to say; returns what the client learned."""
    queue, learned, rounds = [apdu], [], 0
    while queue:
        rounds += 1
        assert rounds < 10_000
        for reply in meter.answer(queue.pop(0)):
            for event in client.receive(reply):
                if isinstance(event, Transmit):
                    queue.append(event.apdu)
                else:
                    learned.append(event)
    return learned


def whole_session(client: ClientAssociation, meter: Meter) -> None:
    """Everything an association can do, once."""
    (associated,) = talk(client, meter, client.associate())
    assert isinstance(associated, Associated)
    assert client.state is ClientState.ASSOCIATED
    assert meter.association.state is ServerState.ASSOCIATED
    assert talk(client, meter, client.get(CLOCK)) == [GetResult((VALUES[CLOCK],))]
    assert talk(client, meter, client.get(PROFILE, Selection(2, b"\x00"))) == [GetResult((LONG,))]
    assert talk(client, meter, client.get(MISSING)) == [GetResult((DataAccessResult.OBJECT_UNDEFINED,))]
    items = [AttributeItem(CLOCK), AttributeItem(MISSING), AttributeItem(PROFILE)]
    expected = (VALUES[CLOCK], DataAccessResult.OBJECT_UNDEFINED, LONG)
    assert talk(client, meter, client.get_many(items)) == [GetResult(expected)]
    for raw in (b"\x11\0", LONG):
        assert talk(client, meter, client.set(CLOCK, raw)) == [SetResult((DataAccessResult.SUCCESS,))]
        assert meter.written.pop(CLOCK) == raw
        pairs = [(AttributeItem(PROFILE), raw), (AttributeItem(MISSING), b"\x00")]
        both = (DataAccessResult.SUCCESS, DataAccessResult.OBJECT_UNDEFINED)
        assert talk(client, meter, client.set_many(pairs)) == [SetResult(both)]
        assert meter.written.pop(PROFILE) == raw
        done = MethodOutcome(ActionResult.SUCCESS, raw)
        assert talk(client, meter, client.action(METHOD, raw)) == [ActionDone((done,))]
        null = MethodOutcome(ActionResult.SUCCESS, b"\x00")
        answer = talk(client, meter, client.action_many([(METHOD, raw), (METHOD, None)]))
        assert answer == [ActionDone((done, null))]
    assert talk(client, meter, client.action(METHOD)) == [ActionDone((MethodOutcome(ActionResult.SUCCESS),))]
    specs = [(AccessGet(CLOCK), None), (AccessSet(CLOCK), b"\x11\1"), (AccessAction(METHOD), None)]
    (access,) = talk(client, meter, client.access(specs))
    assert isinstance(access, AccessDone)
    assert access.response.data[0].data == VALUES[CLOCK]
    assert talk(client, meter, client.release()) == [Released()]
    assert client.state is ClientState.IDLE
    assert meter.association.state is ServerState.IDLE
    assert isinstance(meter.log[-1], ClientReleased)
    assert not [event for event in meter.log if isinstance(event, Refused)]


SECRETS = dict.fromkeys((Mechanism.LLS, Mechanism.HLS_MD5, Mechanism.HLS_SHA1, Mechanism.HLS_SHA256), SECRET)
MECHANISMS = [m for m in Mechanism if m not in (Mechanism.HLS, Mechanism.HLS_ECDSA)]


def server(**more: object) -> ServerSettings:
    base = ServerSettings(
        mechanisms=frozenset(MECHANISMS), secrets=SECRETS, cipher=cipher(b"METER001"), max_pdu=400
    )
    return replace(base, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("ciphered", [False, True])
def test_every_mechanism(mechanism: Mechanism, *, ciphered: bool) -> None:
    context = ApplicationContext.LN_CIPHERED if ciphered else ApplicationContext.LN
    settings = ClientSettings(mechanism, SECRETS.get(mechanism), cipher(b"CLIENT01"), context)
    whole_session(client_of(settings), Meter(server()))


def test_meters_share_how_an_aarq_is_written_and_not_their_passwords():
    passwords = [b"11111111", b"22222222", b"333"]
    written = [ClientSettings(Mechanism.LLS, Key(password)).aarq(b"", b"\x01\x00") for password in passwords]
    told = [acse.decode_aarq(one) for one in written]
    assert [aarq.calling_authentication_value for aarq in told] == passwords
    assert {aarq.user_information for aarq in told} == {b"\x01\x00"}


@pytest.mark.parametrize("mechanism", [Mechanism.NONE, Mechanism.LLS, Mechanism.HLS_MD5])
def test_without_any_keys(mechanism: Mechanism) -> None:
    settings = ClientSettings(mechanism, SECRETS.get(mechanism))
    whole_session(ClientAssociation(settings), Meter(server(mechanisms=frozenset({mechanism}), cipher=None)))


@pytest.mark.parametrize("suite", SecuritySuite)
@pytest.mark.parametrize("protection", [0x10, 0x20, 0x30])
@pytest.mark.parametrize(
    ("form", "dedicated"),
    [(form, False) for form in CipherForm]
    + [(CipherForm.SERVICE_SPECIFIC, True), (CipherForm.GENERAL, True)],
)
def test_every_form(suite: SecuritySuite, form: CipherForm, protection: int, *, dedicated: bool) -> None:
    keys = cipher(
        b"CLIENT01", suite, form=form, protection=Protection(protection), use_dedicated_key=dedicated
    )
    meter = Meter(server(cipher=cipher(b"METER001", suite), policy=Policy(Protection(protection))))
    whole_session(client_of(ClientSettings(Mechanism.HLS_GMAC, cipher=keys)), meter)


@pytest.mark.parametrize("max_pdu", [128, 200, 1024, 65535])
@pytest.mark.parametrize("block_size", [0, 20])
@pytest.mark.parametrize("gbt", [None, 1, 5])
@pytest.mark.parametrize("ciphered", [False, True])
def test_every_block_size(max_pdu: int, block_size: int, gbt: int | None, *, ciphered: bool) -> None:
    keys = cipher(b"CLIENT01") if ciphered else None
    meter = Meter(server(max_pdu=max_pdu, block_size=block_size, gbt_window=3))
    settings = ClientSettings(Mechanism.LLS, SECRET, keys, max_pdu=max_pdu, gbt_window=gbt)
    whole_session(client_of(settings), meter)


def test_server_may_choose_general_blocks() -> None:
    meter = Meter(server(prefer_gbt=True))
    whole_session(client_of(ClientSettings(Mechanism.LLS, SECRET, cipher(b"CLIENT01"))), meter)


def test_again_after_release_and_the_counters_go_on() -> None:
    client, meter = client_of(ClientSettings(Mechanism.HLS_GMAC, cipher=cipher(b"CLIENT01"))), Meter(server())
    for _ in range(2):
        whole_session(client, meter)


# ---- rejected ---------------------------------------------------------------------------------------


def rejected(client: ClientSettings, meter: ServerSettings) -> AssociationRejected:
    one, other = client_of(client), Meter(meter)
    with pytest.raises(AssociationRejected) as caught:
        talk(one, other, one.associate())
    assert other.association.state is ServerState.IDLE
    assert isinstance(other.log[-1], Refused)
    return caught.value


def test_rejections_carry_their_diagnostic() -> None:
    lls = ClientSettings(Mechanism.LLS, Key(b"wrong"))
    assert rejected(lls, server()).diagnostic == AcseDiagnostic.AUTHENTICATION_FAILURE
    only_hls = server(mechanisms=frozenset({Mechanism.HLS_GMAC}))
    assert rejected(ClientSettings(), only_hls).diagnostic == AcseDiagnostic.AUTHENTICATION_REQUIRED
    unknown = AcseDiagnostic.AUTHENTICATION_MECHANISM_NAME_NOT_RECOGNISED
    assert rejected(ClientSettings(Mechanism.LLS, SECRET), only_hls).diagnostic == unknown
    ciphered = ClientSettings(cipher=cipher(b"CLIENT01"))
    context = AcseDiagnostic.APPLICATION_CONTEXT_NAME_NOT_SUPPORTED
    assert (
        rejected(ciphered, server(cipher=None, mechanisms=frozenset({Mechanism.NONE}))).diagnostic == context
    )
    policy = server(policy=Policy(Protection.AUTHENTICATED))
    assert rejected(ClientSettings(), policy).diagnostic == context
    wrong_key = replace(cipher(b"CLIENT01"), encryption_key=Key(b"X" * 16))
    failure = AcseDiagnostic.AUTHENTICATION_FAILURE
    assert rejected(ClientSettings(cipher=wrong_key), server()).diagnostic == failure
    error = rejected(ClientSettings(conformance=Conformance.READ), server())
    assert "incompatible conformance" in str(error)


def test_client_is_idle_again_after_a_rejection() -> None:
    client, meter = client_of(ClientSettings(Mechanism.LLS, Key(b"wrong"))), Meter(server())
    with pytest.raises(AssociationRejected):
        talk(client, meter, client.associate())
    assert client.state is ClientState.IDLE
    client.associate()


@pytest.mark.parametrize("mechanism", [Mechanism.HLS_MD5, Mechanism.HLS_SHA1, Mechanism.HLS_SHA256])
def test_wrong_hls_secret_is_refused_by_the_server(mechanism: Mechanism) -> None:
    settings = ClientSettings(mechanism, Key(b"wrong"), cipher(b"CLIENT01"), ApplicationContext.LN)
    client, meter = client_of(settings), Meter(server())
    with pytest.raises(AssociationRejected, match="refused our HLS proof"):
        talk(client, meter, client.associate())
    assert client.state is ClientState.FAILED
    assert meter.association.state is ServerState.IDLE
    with pytest.raises(LocalProtocolError):
        client.get(CLOCK)
    with pytest.raises(LocalProtocolError, match="failed"):
        client.receive(b"\x61\x00")


@pytest.mark.parametrize("mechanism", [m for m in MECHANISMS if m >= Mechanism.HLS_MD5])
def test_server_that_cannot_prove_itself_is_not_believed(mechanism: Mechanism) -> None:
    keys = cipher(b"CLIENT01")
    client = client_of(ClientSettings(mechanism, SECRETS.get(mechanism), keys, ApplicationContext.LN))
    meter = Meter(server())
    (aare,) = meter.answer(client.associate())
    (proof,) = client.receive(aare)
    assert isinstance(proof, Transmit)
    assert client.state is ClientState.HLS_PENDING
    (answer,) = meter.answer(proof.apdu)
    forged = answer[:-1] + bytes([answer[-1] ^ 1])
    with pytest.raises(SecurityError):
        client.receive(forged)
    assert client.state is ClientState.FAILED


def test_reflected_challenge_is_refused() -> None:
    client = client_of(ClientSettings(Mechanism.HLS_MD5, SECRET))
    aarq = acse.decode_aarq(client.associate())
    aare = acse.Aare(
        ApplicationContext.LN,
        acse.AssociationResult.ACCEPTED,
        acse.Diagnostic(acse.DiagnosticSource.USER, 14),
        mechanism=Mechanism.HLS_MD5,
        responding_authentication_value=aarq.calling_authentication_value,
        user_information=initiate.InitiateResponse(CLIENT_CONFORMANCE, 500).to_bytes(),
    )
    with pytest.raises(SecurityError, match="our own HLS challenge"):
        client.receive(aare.to_bytes())
    assert client.state is ClientState.FAILED


@pytest.mark.parametrize(
    ("change", "error", "word"),
    [
        ({"context": ApplicationContext.LN_CIPHERED}, SecurityError, "application context"),
        ({"mechanism": Mechanism.HLS_SHA1}, SecurityError, "mechanism"),
        ({"responding_authentication_value": None}, SecurityError, "0 bytes"),
        ({"user_information": None}, RemoteProtocolError, "without an InitiateResponse"),
        ({"user_information": b"\x0e\x01\x06\x03"}, ServiceRefused, "PDU size too short"),
        ({"user_information": b"\x01"}, RemoteProtocolError, "not an InitiateResponse"),
        (
            {"user_information": initiate.InitiateResponse(CLIENT_CONFORMANCE, 0, 0xFA00).to_bytes()},
            RemoteProtocolError,
            "logical names",
        ),
    ],
)
def test_odd_aares(change: dict[str, object], error: type[Exception], word: str) -> None:
    client = client_of(ClientSettings(Mechanism.HLS_MD5, SECRET))
    client.associate()
    aare = acse.Aare(
        ApplicationContext.LN,
        acse.AssociationResult.ACCEPTED,
        acse.Diagnostic(acse.DiagnosticSource.USER, 14),
        mechanism=Mechanism.HLS_MD5,
        responding_authentication_value=b"12345678",
        user_information=initiate.InitiateResponse(CLIENT_CONFORMANCE, 500).to_bytes(),
    )
    with pytest.raises(error, match=word):
        client.receive(replace(aare, **change).to_bytes())  # type: ignore[arg-type]
    assert client.state in (ClientState.FAILED, ClientState.IDLE)


# ---- late, doubled, replayed, forged ----------------------------------------------------------------


def associated(settings: ClientSettings | None = None, **more: object) -> tuple[ClientAssociation, Meter]:
    default = ClientSettings(Mechanism.HLS_GMAC, cipher=cipher(b"CLIENT01"))
    client, meter = client_of(settings or default), Meter(server(**more))
    talk(client, meter, client.associate())
    assert client.state is ClientState.ASSOCIATED
    return client, meter


PLAIN = ClientSettings(Mechanism.LLS, SECRET)


@pytest.mark.parametrize("settings", [PLAIN, None], ids=["plain", "ciphered"])
def test_late_answer_is_never_taken_for_the_next_request(settings: ClientSettings | None) -> None:
    client, meter = associated(settings)
    (late,) = meter.answer(client.get(CLOCK))
    client.abandon()
    (answer,) = meter.answer(client.get(COUNTER))
    assert isinstance(client.receive(late)[0], Stale)
    assert client.state is ClientState.WAITING
    assert client.receive(answer) == [GetResult((VALUES[COUNTER],))]


def test_exception_after_an_abandoned_request_is_taken_for_the_late_answer() -> None:
    client, _ = associated(PLAIN)
    client.get(CLOCK)
    client.abandon()
    client.get(CLOCK)
    exception = exceptions.ExceptionResponseApdu(1, 2).to_bytes()
    assert isinstance(client.receive(exception)[0], Stale)
    assert client.state is ClientState.WAITING
    with pytest.raises(ExceptionResponse) as caught:
        client.receive(exception)
    assert (caught.value.state_error, caught.value.service_error) == (1, 2)
    assert client.state is ClientState.ASSOCIATED
    assert isinstance(client.receive(exception)[0], Stale)


def test_doubled_answers_and_blocks_are_stale() -> None:
    for settings in (PLAIN, None):
        client, meter = associated(settings)
        (answer,) = meter.answer(client.get(CLOCK))
        client.receive(answer)
        assert isinstance(client.receive(answer)[0], Stale)
        (first,) = meter.answer(client.get(PROFILE))
        (ask,) = client.receive(first)
        assert isinstance(client.receive(first)[0], Stale)
        assert isinstance(ask, Transmit)
        assert talk(client, meter, ask.apdu) == [GetResult((LONG,))]


def test_late_general_blocks_are_not_mixed_into_the_next_answer() -> None:
    client, meter = associated(PLAIN, prefer_gbt=True)
    (late,) = meter.answer(client.get(PROFILE))
    client.abandon()
    client.get(CLOCK)
    assert isinstance(client.receive(late)[0], Stale)
    assert client.state is ClientState.WAITING


def test_replayed_and_forged_answers() -> None:
    client, meter = associated()
    (old,) = meter.answer(client.get(CLOCK))
    client.receive(old)
    (answer,) = meter.answer(client.get(COUNTER))
    for position in range(2, len(answer)):
        forged = bytearray(answer)
        forged[position] ^= 0x40
        with pytest.raises(RemoteProtocolError):
            client.receive(bytes(forged))
    assert client.receive(answer) == [GetResult((VALUES[COUNTER],))]
    client.get(CLOCK)
    with pytest.raises(SecurityError, match="not above"):
        client.receive(old)
    assert client.state is ClientState.WAITING


def test_replayed_request_is_told_the_counter() -> None:
    client, meter = associated()
    old = client.get(CLOCK)
    (answer,) = meter.answer(old)
    client.receive(answer)
    talk(client, meter, client.get(CLOCK))
    (reply,) = meter.answer(old)
    told = exceptions.decode(reply)
    assert told.invocation_counter is not None
    client.get(CLOCK)
    with pytest.raises(ExceptionResponse) as caught:
        client.receive(reply)
    assert caught.value.invocation_counter == told.invocation_counter


def test_counter_behind_the_meters_is_told_at_the_aarq() -> None:
    client = client_of(ClientSettings(Mechanism.HLS_GMAC, cipher=cipher(b"CLIENT01")))
    with pytest.raises(ExceptionResponse) as caught:
        talk(client, Meter(server(), last=1000), client.associate())
    assert caught.value.invocation_counter == 1001
    assert client.state is ClientState.IDLE


def test_plain_answer_in_a_ciphered_association_is_refused() -> None:
    client, _ = associated()
    client.get(CLOCK)
    plain = get.GetResponseNormal(INVOKE[0xC3], Raw(VALUES[CLOCK])).to_bytes()
    with pytest.raises(SecurityError, match="policy is not met"):
        client.receive(plain)
    with pytest.raises(ExceptionResponse):
        client.receive(exceptions.ExceptionResponseApdu(1, 1).to_bytes())


def test_weaker_answer_than_required_is_refused() -> None:
    weak = cipher(b"CLIENT01", protection=Protection.ENCRYPTED, required=Protection.AUTHENTICATED_ENCRYPTED)
    client = client_of(ClientSettings(Mechanism.LLS, SECRET, weak))
    (aare,) = Meter(server()).answer(client.associate())
    with pytest.raises(SecurityError, match="not authenticated"):
        client.receive(aare)
    assert client.state is ClientState.FAILED


def test_wrong_block_numbers() -> None:
    client, meter = associated(PLAIN)
    (first,) = meter.answer(client.get(PROFILE))
    client.receive(first)
    skipped = get.GetResponseWithBlock(INVOKE[0xC1], False, 3, b"x").to_bytes()
    with pytest.raises(RemoteProtocolError, match="block 2 is due"):
        client.receive(skipped)
    (reply,) = meter.answer(get.GetRequestNext(INVOKE[0xC1], 9).to_bytes())
    assert get.decode_response(reply).result is DataAccessResult.DATA_BLOCK_NUMBER_INVALID
    (reply,) = meter.answer(get.GetRequestNext(INVOKE[0xC1], 1).to_bytes())
    assert get.decode_response(reply).result is DataAccessResult.NO_LONG_GET_IN_PROGRESS


def test_lost_general_block_is_asked_for_again_after_a_nudge() -> None:
    client, meter = associated(replace(PLAIN, gbt_window=4))
    blocks = meter.answer(client.get(PROFILE))
    assert len(blocks) == 4
    for block in blocks[:3]:
        assert client.receive(block) == []
    nudge = client.nudge()
    assert nudge is not None
    assert talk(client, meter, nudge) == [GetResult((LONG,))]
    assert client.nudge() is None
    client.get(PROFILE)
    client.abandon()
    assert client.state is ClientState.FAILED


def test_repeated_general_blocks_are_not_mixed_into_the_next_answer() -> None:
    """The peer repeats a lost block with all behind it; those come when the answer is complete."""
    client, meter = associated(replace(PLAIN, gbt_window=63))
    blocks = meter.answer(client.get(PROFILE))
    events = []
    for block in (*blocks[:2], *blocks[3:]):
        events += client.receive(block)
    (ask,) = events
    assert isinstance(ask, Transmit)
    again = meter.answer(ask.apdu)
    assert client.receive(again[0]) == [GetResult((LONG,))]
    assert isinstance(client.receive(again[1])[0], Stale)
    (answer,) = meter.answer(client.get(COUNTER))
    for block in again[2:]:
        assert isinstance(client.receive(block)[0], Stale)
    assert client.receive(answer) == [GetResult((VALUES[COUNTER],))]


def test_where_general_blocks_are_not_negotiated_long_requests_go_in_their_own() -> None:
    without = server().conformance & ~Conformance.GENERAL_BLOCK_TRANSFER
    client, _ = associated(replace(PLAIN, gbt_window=4), conformance=without)
    assert len(client.set(CLOCK, LONG)) <= client.peer_max_pdu


# ---- states -----------------------------------------------------------------------------------------

CALLS: dict[str, Callable[[ClientAssociation], object]] = {
    "associate": lambda c: c.associate(),
    "get": lambda c: c.get(CLOCK),
    "get_many": lambda c: c.get_many([AttributeItem(CLOCK)]),
    "set": lambda c: c.set(CLOCK, b"\x00"),
    "set_many": lambda c: c.set_many([(AttributeItem(CLOCK), b"\x00")]),
    "action": lambda c: c.action(METHOD),
    "action_many": lambda c: c.action_many([(METHOD, None)]),
    "access": lambda c: c.access([(AccessGet(CLOCK), None)]),
    "release": lambda c: c.release(),
}
ALLOWED = {ClientState.IDLE: {"associate"}, ClientState.ASSOCIATED: set(CALLS) - {"associate"}}


@pytest.mark.parametrize("state", ClientState)
@pytest.mark.parametrize("call", CALLS)
def test_each_state_refuses_what_it_must(state: ClientState, call: str) -> None:
    client, _ = associated()
    client.state = state
    if call in ALLOWED.get(state, set()):
        CALLS[call](client)
    else:
        with pytest.raises(LocalProtocolError, match="not possible in state"):
            CALLS[call](client)
        assert client.state is state


def test_one_request_at_a_time_and_no_empty_lists() -> None:
    client, _ = associated()
    with pytest.raises(LocalProtocolError, match="at least one"):
        client.get_many([])
    client.get(CLOCK)
    with pytest.raises(LocalProtocolError):
        client.get(CLOCK)


def test_long_request_without_block_transfer_is_ours_to_blame() -> None:
    client, meter = associated(replace(PLAIN, conformance=Conformance.SET | Conformance.GET))
    with pytest.raises(LocalProtocolError, match="not negotiated"):
        client.set(CLOCK, LONG)
    assert client.state is ClientState.ASSOCIATED
    assert talk(client, meter, client.get(CLOCK)) == [GetResult((VALUES[CLOCK],))]
    assert talk(client, meter, client.get(PROFILE)) == [GetResult((DataAccessResult.DATA_BLOCK_UNAVAILABLE,))]


def test_request_that_cannot_be_encoded_leaves_the_association_as_it_was() -> None:
    client, meter = associated(PLAIN)
    with pytest.raises(LocalProtocolError):
        client.get(Attribute(70_000, CLOCK.obis, 2))
    assert client.state is ClientState.ASSOCIATED
    first = client.get(CLOCK)
    with pytest.raises(LocalProtocolError):
        client.get(CLOCK)
    assert client.state is ClientState.WAITING
    assert talk(client, meter, first) == [GetResult((VALUES[CLOCK],))]


def test_tiny_pdu_sizes_are_refused() -> None:
    assert "PDU size too short" in str(
        rejected(ClientSettings(max_pdu=64, cipher=cipher(b"CLIENT01")), server())
    )


def test_tables_have_no_dead_ends_but_failed() -> None:
    for table in (CLIENT_TRANSITIONS, SERVER_TRANSITIONS):
        reached = {target for moves in table.values() for target in moves.values()}
        assert reached == set(table)
    assert CLIENT_TRANSITIONS[ClientState.FAILED] == {}
    assert {move for moves in CLIENT_TRANSITIONS.values() for move in moves} == set(ClientInput)


def test_design_document_shows_the_tables() -> None:
    text = (Path(__file__).parents[2] / "protocols/dlms/DESIGN.md").read_text()
    assert mermaid(CLIENT_TRANSITIONS) in text
    assert mermaid(SERVER_TRANSITIONS) in text


# ---- the server -------------------------------------------------------------------------------------


def test_server_answers_requests_without_association_with_an_exception() -> None:
    meter = Meter(server())
    (reply,) = meter.answer(get.GetRequestNormal(INVOKE[0xC1], CLOCK).to_bytes())
    assert exceptions.decode(reply).state_error == 1
    assert meter.answer(acse.Rlrq(0).to_bytes()) == [acse.Rlre(0).to_bytes()]
    assert not isinstance(meter.log[-1], ClientReleased)


def test_server_serves_nobody_before_the_proof() -> None:
    settings = ClientSettings(Mechanism.HLS_MD5, SECRET)
    client, meter = client_of(settings), Meter(server())
    meter.answer(client.associate())
    assert meter.association.state is ServerState.HLS_PENDING
    for request in (
        get.GetRequestNormal(INVOKE[0xC1], CLOCK).to_bytes(),
        bytes.fromhex("c301c100090000" + "0a0000ff0100"),
    ):
        (reply,) = meter.answer(request)
        assert exceptions.decode(reply).state_error == 1
    assert not [
        event for event in meter.log if isinstance(event, GetRequested | ActionRequested | ClientAssociated)
    ]


def test_public_client_reads_public_objects_only() -> None:
    guarded = server(
        mechanisms=frozenset({Mechanism.HLS_GMAC}),
        policy=Policy(Protection.AUTHENTICATED_ENCRYPTED, Protection.AUTHENTICATED_ENCRYPTED),
        public_objects=frozenset({COUNTER}),
    )
    client, meter = client_of(ClientSettings()), Meter(guarded)
    talk(client, meter, client.associate())
    denied = DataAccessResult.READ_WRITE_DENIED
    assert talk(client, meter, client.get(COUNTER)) == [GetResult((VALUES[COUNTER],))]
    assert talk(client, meter, client.get(CLOCK)) == [GetResult((denied,))]
    items = [AttributeItem(CLOCK), AttributeItem(COUNTER)]
    assert talk(client, meter, client.get_many(items)) == [GetResult((denied, VALUES[COUNTER]))]
    assert talk(client, meter, client.set(COUNTER, b"\x00")) == [SetResult((denied,))]
    outcome = MethodOutcome(ActionResult.READ_WRITE_DENIED)
    assert talk(client, meter, client.action(METHOD)) == [ActionDone((outcome,))]
    client.access([(AccessGet(CLOCK), None)])
    assert not [event for event in meter.log if isinstance(event, SetRequested | ActionRequested)]
    whole_session(client_of(ClientSettings(Mechanism.HLS_GMAC, cipher=cipher(b"CLIENT01"))), Meter(guarded))


def test_policy_holds_for_requests_and_responses() -> None:
    policy = Policy(Protection.AUTHENTICATED_ENCRYPTED, Protection.AUTHENTICATED_ENCRYPTED)
    weak = ClientSettings(cipher=cipher(b"CLIENT01", protection=Protection.AUTHENTICATED))
    assert rejected(weak, server(policy=policy)).diagnostic == AcseDiagnostic.AUTHENTICATION_FAILURE
    client, meter = associated(policy=policy)
    (reply,) = meter.answer(get.GetRequestNormal(INVOKE[0xC1], CLOCK).to_bytes())
    assert exceptions.decode(reply).service_error == 5
    stronger = Policy(Protection.AUTHENTICATED, Protection.AUTHENTICATED_ENCRYPTED)
    client = client_of(
        ClientSettings(Mechanism.NONE, cipher=cipher(b"CLIENT01", protection=Protection.AUTHENTICATED))
    )
    meter = Meter(server(policy=stronger))
    talk(client, meter, client.associate())
    (reply,) = meter.answer(client.get(CLOCK))
    assert reply[2] == 0x30


def test_notifications() -> None:
    client, meter = associated()
    (pushed,) = meter.association.notify(b"\x06\0\0\0\1")
    (event,) = client.receive(pushed)
    assert isinstance(event, Notification)
    assert (event.apdu.long_invoke.invoke_id, event.control) == (1, 0x30)
    assert open_apdu(pushed, keys=cipher(b"CLIENT01").keys).plain.endswith(b"\x06\0\0\0\1")
    blocks = meter.association.notify(LONG)
    assert len(blocks) > 1
    assert all(len(block) <= 400 for block in blocks)
    assert isinstance(client.receive(blocks[0])[0], Stale)
    unciphered = ServerAssociation(ServerSettings())
    assert unciphered.notify(b"\x00", confirmed=True)[0].hex() == "0f400000010000"


def test_application_must_answer_what_was_asked() -> None:
    meter = Meter(server()).association
    with pytest.raises(LocalProtocolError):
        meter.respond_get([b"\x00"])
    client = client_of(PLAIN)
    meter.receive(client.associate())
    meter.receive(get.GetRequestNormal(INVOKE[0xC1], CLOCK).to_bytes())
    busy = meter.receive(get.GetRequestNormal(INVOKE[0xC2], CLOCK).to_bytes())
    assert isinstance(busy[1], Refused)
    with pytest.raises(LocalProtocolError):
        meter.respond_set([DataAccessResult.SUCCESS])
    with pytest.raises(LocalProtocolError, match="2 results for 1"):
        meter.respond_get([b"\x00", b"\x00"])


def test_unconfirmed_requests_are_not_answered() -> None:
    _, meter = associated(PLAIN)
    assert meter.answer(get.GetRequestNormal(INVOKE[0x01], CLOCK).to_bytes()) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: ClientSettings(Mechanism.LLS),
        lambda: ClientSettings(Mechanism.HLS_GMAC),
        lambda: ClientSettings(context=ApplicationContext.SN),
        lambda: ClientSettings(context=ApplicationContext.LN_CIPHERED),
        lambda: ClientSettings(challenge_length=7),
        lambda: ClientSettings(max_pdu=10),
        lambda: ClientSettings(gbt_window=0),
        lambda: CipherSettings(b"short", Key(bytes(16)), Key(bytes(16))),
        lambda: CipherSettings(b"8 bytes!", Key(bytes(16))),
        lambda: CipherSettings(b"8 bytes!", Key(bytes(15)), Key(bytes(16))),
        lambda: cipher(b"8 bytes!", form=CipherForm.GENERAL_CIPHERING, use_dedicated_key=True),
        lambda: CipherSettings(b"8 bytes!", Key(bytes(16)), Key(bytes(16)), protection=Protection.NONE),
        lambda: CipherSettings(
            b"8 bytes!", Key(bytes(16)), Key(bytes(16)), form=CipherForm.GENERAL_CIPHERING_WRAPPED
        ),
        lambda: ServerSettings(frozenset({Mechanism.LLS})),
        lambda: ServerSettings(frozenset({Mechanism.HLS_GMAC})),
        lambda: ServerSettings(policy=Policy(Protection.ENCRYPTED)),
        lambda: ServerSettings(max_pdu=10),
        lambda: ServerSettings(gbt_window=64),
        lambda: ClientAssociation(ClientSettings(cipher=cipher(b"CLIENT01"))),
        lambda: ServerAssociation(ServerSettings(cipher=cipher(b"METER001"))),
    ],
)
def test_settings_refuse(make: Callable[[], object]) -> None:
    with pytest.raises(LocalProtocolError):
        make()


def test_settings_do_not_tell_secrets() -> None:
    settings = ClientSettings(Mechanism.LLS, Key(b"hunter2!"), cipher(b"CLIENT01"))
    settings.aarq(b"", b"\x01")
    text = repr(settings) + repr(server()) + repr(client_of(settings).__slots__)
    assert "hunter2" not in text
    assert "EEEE" not in text
    assert "a shared secret" not in text


def test_only_short_answers_of_a_fleet_are_remembered() -> None:
    client = ClientAssociation(ClientSettings())
    client.associate()
    before = len(client_setup._AARES)
    padded = acse.Aare(
        ApplicationContext.LN,
        AssociationResult.REJECTED_PERMANENT,
        acse.Diagnostic(acse.DiagnosticSource.USER, 1),
        responding_ap_title=bytes(1000),
    ).to_bytes()
    with pytest.raises(AssociationRejected):
        client.receive(padded)
    assert len(client_setup._AARES) == before
