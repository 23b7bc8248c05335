"""What a recording of several messages tells: blocks joined, keys and titles learned, answers named."""

from decimal import Decimal

import pytest

from protocols.dlms import axdr, wrapper
from protocols.dlms.apdu import (
    Aare,
    Aarq,
    DataNotification,
    Diagnostic,
    DiagnosticSource,
    GeneralBlockTransfer,
    GeneralGloCiphering,
    GetRequestNormal,
    GetRequestWithList,
    GetResponseNormal,
    GetResponseWithBlock,
    GetResponseWithList,
    InitiateRequest,
    InitiateResponse,
    InvokeIdAndPriority,
    LongInvokeIdAndPriority,
    Raw,
    SecuredBody,
    SetRequestWithBlock,
    SetRequestWithFirstBlock,
)
from protocols.dlms.apdu.fields import AttributeItem
from protocols.dlms.ciphering import seal_apdu, seal_general_ciphering
from protocols.dlms.cosem import Attribute
from protocols.dlms.decode import Keys, Message, Status, StreamDecoder, decode_stream
from protocols.dlms.enums import ApplicationContext, AssociationResult, Conformance, DataAccessResult
from protocols.dlms.obis import Obis
from protocols.dlms.push_values import Value
from protocols.dlms.security import CipherKeys, Key, wrap_key

ENERGY = Attribute(3, Obis.parse("1-0:1.8.0"), 2)
POWER = Attribute(3, Obis.parse("1-0:1.7.0"), 2)
ID = InvokeIdAndPriority(5)
CLIENT, SERVER = b"CLI00001", b"SRV00001"
ENCRYPTION, AUTHENTICATION = Key(bytes(range(16))), Key(bytes(range(16, 32)))
KEYS = Keys(ENCRYPTION, AUTHENTICATION)
CIPHER = CipherKeys(ENCRYPTION, AUTHENTICATION)
NOTIFICATION = DataNotification(
    LongInvokeIdAndPriority(1),
    None,
    Raw(axdr.encode(axdr.structure(axdr.octets(ENERGY.obis.to_bytes()), axdr.u32(5)))),
).to_bytes()
ENERGY_5 = (Value(ENERGY.obis, Decimal(5)),)


def request(apdu: bytes) -> bytes:
    return wrapper.encode(16, 1, apdu)


def answer(apdu: bytes) -> bytes:
    return wrapper.encode(1, 16, apdu)


def one(*messages: bytes, keys: Keys | None = None) -> Message:
    (message,) = decode_stream(b"".join(messages), keys)
    return message


def test_nothing_is_nothing() -> None:
    assert decode_stream(b"") == []


# ---- GET ------------------------------------------------------------------------------------------


def test_an_answer_is_named_by_its_request() -> None:
    _, told = decode_stream(
        request(GetRequestNormal(ID, ENERGY).to_bytes())
        + answer(GetResponseNormal(ID, Raw(axdr.encode(axdr.u32(5)))).to_bytes())
    )
    assert told.values == ENERGY_5
    assert (told.source, told.destination) == ("1", "16")


def test_answers_to_a_list_are_named_in_order() -> None:
    items = (AttributeItem(POWER), AttributeItem(ENERGY))
    results = (DataAccessResult.OBJECT_UNDEFINED, Raw(axdr.encode(axdr.u32(5))))
    _, told = decode_stream(
        request(GetRequestWithList(ID, items).to_bytes())
        + answer(GetResponseWithList(ID, results).to_bytes())
    )
    assert told.values == ENERGY_5


def test_another_request_names_nothing() -> None:
    other = InvokeIdAndPriority(6)
    _, told = decode_stream(
        request(GetRequestNormal(other, ENERGY).to_bytes())
        + answer(GetResponseNormal(ID, Raw(axdr.encode(axdr.u32(5)))).to_bytes())
    )
    assert told.values == ()


VALUE = axdr.encode(axdr.array([axdr.u32(number) for number in range(20)]))


def get_blocks(size: int = 30, data: bytes = VALUE) -> list[bytes]:
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return [
        answer(GetResponseWithBlock(ID, number == len(parts), number, part).to_bytes())
        for number, part in enumerate(parts, 1)
    ]


def test_blocks_of_an_answer_are_joined() -> None:
    blocks = get_blocks()
    message = one(*blocks)
    assert (message.blocks, message.frames, message.status) == (len(blocks), len(blocks), Status.OK)
    assert len(message.tree["result"]["items"]) == 20
    again = one(blocks[0], blocks[1], blocks[1], *blocks[2:])  # one sent twice
    assert again.tree == message.tree


def test_a_missing_block_is_bad() -> None:
    blocks = get_blocks()
    broken, *alone = decode_stream(b"".join([*blocks[:1], *blocks[2:]]))
    assert broken.status is Status.BAD
    assert "block 3 where block 2 is due" in broken.problems[0].reason
    assert all(message.status is Status.OK for message in alone)


def test_a_transfer_that_stops_is_cut_short_and_a_lone_block_is_itself() -> None:
    blocks = get_blocks()
    stopped = one(*blocks[:2])
    assert (stopped.status, stopped.problems[0].offset) == (Status.BAD, 0)
    assert "cut short" in stopped.problems[0].reason
    for lone in (blocks[0], blocks[2]):
        message = one(lone)
        assert (message.status, message.apdu) == (Status.OK, "get-response")
        assert "alone" in message.notes[0]


def test_blocks_that_join_to_a_cut_value_are_bad() -> None:
    message = one(*get_blocks(data=VALUE[:-3]))
    assert message.status is Status.BAD
    assert "19 of 20 elements" in message.problems[0].reason


def test_blocks_of_a_set_request_are_joined() -> None:
    message = one(
        request(SetRequestWithFirstBlock(ID, ENERGY, None, False, 1, VALUE[:50]).to_bytes()),
        request(SetRequestWithBlock(ID, True, 2, VALUE[50:]).to_bytes()),
    )
    assert (message.status, message.blocks) == (Status.OK, 2)
    assert len(message.tree["value"]["items"]) == 20


# ---- general block transfer -----------------------------------------------------------------------


def gbt(apdu: bytes, size: int = 8) -> list[bytes]:
    parts = [apdu[at : at + size] for at in range(0, len(apdu), size)]
    return [
        answer(GeneralBlockTransfer(number == len(parts), True, 1, number, 0, part).to_bytes())
        for number, part in enumerate(parts, 1)
    ]


def test_general_blocks_are_joined_in_any_order() -> None:
    blocks = gbt(NOTIFICATION)
    for order in (blocks, [blocks[1], blocks[0], *blocks[2:]], [blocks[0], *blocks]):
        message = one(*order)
        assert message.layers == ("general-block-transfer", "data-notification")
        assert message.values == ENERGY_5


def test_a_lost_general_block_is_bad_and_the_next_transfer_is_not() -> None:
    blocks = gbt(NOTIFICATION)
    other = gbt(NOTIFICATION.replace(b"\x0f\x00\x00\x00\x01", b"\x0f\x00\x00\x00\x02"))
    lost, good = decode_stream(b"".join([blocks[0], *blocks[2:], *other]))
    assert (lost.status, good.status, good.values) == (Status.BAD, Status.OK, ENERGY_5)
    assert "a new transfer begins" in lost.problems[0].reason
    broken = one(blocks[0], *blocks[2:])
    assert (broken.status, broken.problems[0].offset) == (Status.BAD, 0)
    assert "last block is missing" in broken.problems[0].reason


def test_an_acknowledgement_is_a_message_of_its_own() -> None:
    message = one(request(GeneralBlockTransfer(False, False, 1, 1, 3, b"").to_bytes()))
    assert (message.status, message.tree["block_number_ack"]) == (Status.OK, 3)


def test_nesting_ends() -> None:
    apdu = NOTIFICATION
    for _ in range(6):
        apdu = GeneralBlockTransfer(True, False, 1, 1, 0, apdu).to_bytes()
    message = one(answer(apdu))
    assert message.status is Status.BAD
    assert "nested" in message.problems[0].reason


# ---- deciphering ----------------------------------------------------------------------------------


def association(dedicated: Key | None = None) -> bytes:
    secret = None if dedicated is None else dedicated.reveal()
    initiate = InitiateRequest(Conformance.GET, 1024, dedicated_key=secret).to_bytes()
    response = InitiateResponse(Conformance.GET, 1024).to_bytes()
    aarq = Aarq(
        ApplicationContext.LN_CIPHERED,
        calling_ap_title=CLIENT,
        user_information=seal_apdu(initiate, control=0x30, counter=1, system_title=CLIENT, keys=CIPHER),
    )
    aare = Aare(
        ApplicationContext.LN_CIPHERED,
        AssociationResult.ACCEPTED,
        Diagnostic(DiagnosticSource.USER, 0),
        responding_ap_title=SERVER,
        user_information=seal_apdu(response, control=0x30, counter=1, system_title=SERVER, keys=CIPHER),
    )
    return request(aarq.to_bytes()) + answer(aare.to_bytes())


ASK = GetRequestNormal(ID, ENERGY).to_bytes()
TELL = GetResponseNormal(ID, Raw(axdr.encode(axdr.u32(5)))).to_bytes()


@pytest.mark.parametrize("dedicated", [None, Key(bytes(range(32, 48)))])
def test_titles_and_dedicated_key_are_learned_from_the_association(dedicated: Key | None) -> None:
    keys = CIPHER if dedicated is None else CipherKeys(dedicated, AUTHENTICATION)
    ask = seal_apdu(
        ASK, control=0x30, counter=2, system_title=CLIENT, keys=keys, dedicated=dedicated is not None
    )
    tell = seal_apdu(
        TELL, control=0x30, counter=2, system_title=SERVER, keys=keys, dedicated=dedicated is not None
    )
    messages = decode_stream(association(dedicated) + request(ask) + answer(tell), KEYS)
    assert [message.status for message in messages] == [Status.OK] * 4
    assert [message.apdu for message in messages] == ["AARQ", "AARE", "get-request", "get-response"]
    assert messages[3].values == ENERGY_5
    assert messages[3].system_title == SERVER
    assert messages[3].security.verified
    assert messages[3].security.key == ("global" if dedicated is None else "dedicated")
    if dedicated is not None:
        assert dedicated.reveal().hex() not in str([message.to_json() for message in messages])


def test_without_the_association_the_title_can_be_given() -> None:
    tell = answer(seal_apdu(TELL, control=0x30, counter=2, system_title=SERVER, keys=CIPHER))
    assert one(tell, keys=KEYS).status is Status.UNDECRYPTABLE
    given = one(tell, keys=Keys(ENCRYPTION, AUTHENTICATION, SERVER))
    assert (given.status, given.apdu) == (Status.OK, "get-response")
    assert one(tell, keys=Keys(ENCRYPTION, AUTHENTICATION, CLIENT)).status is Status.BAD


def sealed(control: int) -> bytes:
    return answer(
        seal_apdu(NOTIFICATION, control=control, counter=7, system_title=SERVER, keys=CIPHER, general=True)
    )


@pytest.mark.parametrize(
    ("control", "keys", "status", "verified"),
    [
        (0x30, Keys(), Status.UNDECRYPTABLE, False),
        (0x20, Keys(), Status.UNDECRYPTABLE, False),
        (0x10, Keys(), Status.OK, False),  # authenticated only: there to read
        (0x30, Keys(ENCRYPTION), Status.OK, False),
        (0x20, Keys(ENCRYPTION), Status.OK, False),
        (0x10, Keys(ENCRYPTION), Status.OK, False),
        (0x30, KEYS, Status.OK, True),
        (0x20, KEYS, Status.OK, False),
        (0x10, KEYS, Status.OK, True),
        (0x30, Keys(ENCRYPTION, Key(bytes(16))), Status.BAD, False),
        (0x10, Keys(ENCRYPTION, Key(bytes(16))), Status.BAD, False),
        (0x30, Keys(Key(bytes(16))), Status.BAD, False),
        (0x20, Keys(Key(bytes(16)), AUTHENTICATION), Status.BAD, False),
        (0x30, Keys(Key(bytes(32)), AUTHENTICATION), Status.UNDECRYPTABLE, False),  # not of this suite
    ],
)
def test_what_opens_with_which_keys(control: int, keys: Keys, status: Status, verified: bool) -> None:
    message = one(sealed(control), keys=keys)
    assert message.status is status
    assert message.values == (ENERGY_5 if status is Status.OK else ())
    assert (message.system_title, message.counter, message.security.control) == (SERVER, 7, control)
    if status is not Status.BAD:
        assert message.security.verified is verified
        assert any("verified" in note or "undecryptable" in note for note in message.notes) is not verified


def test_unsupported_protection_is_refused_by_name() -> None:
    for control, reason in ((0xB0, "compression"), (0x70, "broadcast"), (0x35, "suite 5"), (0x00, "no prot")):
        apdu = GeneralGloCiphering(SERVER, SecuredBody(control, 1, bytes(20))).to_bytes()
        message = one(answer(apdu), keys=KEYS)
        assert message.status is Status.BAD
        assert reason in message.problems[0].reason


def test_wrapped_key_of_general_ciphering() -> None:
    master, session = Key(bytes(range(48, 64))), Key(bytes(range(64, 80)))
    apdu = seal_general_ciphering(
        NOTIFICATION,
        control=0x30,
        counter=1,
        system_title=SERVER,
        recipient=CLIENT,
        transaction_id=b"1",
        keys=CipherKeys(session, AUTHENTICATION),
        wrapped=wrap_key(session, kek=master),
    )
    opened = one(answer(apdu), keys=Keys(None, AUTHENTICATION, None, master))
    assert (opened.status, opened.values, opened.security.verified) == (Status.OK, ENERGY_5, True)
    assert one(answer(apdu), keys=KEYS).status is Status.UNDECRYPTABLE
    wrong = one(answer(apdu), keys=Keys(None, AUTHENTICATION, None, Key(bytes(16))))
    assert wrong.status is Status.BAD


# ---- the stream -----------------------------------------------------------------------------------


def test_what_pieces_teach_and_begin_lives_on() -> None:
    decoder = StreamDecoder(KEYS)
    blocks = gbt(
        seal_apdu(NOTIFICATION, control=0x30, counter=1, system_title=SERVER, keys=CIPHER, general=True), 40
    )
    messages = []
    offset = 0
    for block in blocks:
        messages += decoder.decode(block, offset)
        offset += len(block)
    messages += decoder.finish()
    assert [message.values for message in messages] == [ENERGY_5]


def test_offsets_lead_to_the_byte() -> None:
    good = answer(TELL)
    bad = answer(TELL[:-1])  # the value of the answer is one byte short
    _, message = decode_stream(good + bad)
    (problem,) = message.problems
    assert (message.offset, problem.apdu_offset) == (len(good), 5)
    assert problem.offset == len(good) + wrapper.HEADER_LENGTH + 5


def test_a_bad_stretch_is_told_and_the_rest_goes_on() -> None:
    messages = decode_stream(answer(TELL) + b"\xff\xff\xff" + answer(TELL))
    assert [message.status for message in messages] == [Status.OK, Status.BAD, Status.OK]
    assert messages[1].tree == {"data": "ffffff"}


def test_keys_do_not_show() -> None:
    text = repr(Keys(ENCRYPTION, AUTHENTICATION, SERVER, ENCRYPTION))
    assert ENCRYPTION.reveal().hex() not in text
    assert repr(ENCRYPTION.reveal()) not in text
