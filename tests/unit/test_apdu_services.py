"""All services: bytes written out by hand from the standard's ASN.1."""

import pytest

from protocols.dlms import apdu
from protocols.dlms.apdu.access import (
    AccessAction,
    AccessActionResult,
    AccessGet,
    AccessGetResult,
    AccessRequest,
    AccessResponse,
    AccessSet,
    AccessSetResult,
)
from protocols.dlms.apdu.action import (
    ActionOutcome,
    ActionRequestNextPBlock,
    ActionRequestWithFirstPBlock,
    ActionRequestWithList,
    ActionRequestWithListAndFirstPBlock,
    ActionRequestWithPBlock,
    ActionResponseNextPBlock,
    ActionResponseWithList,
    ActionResponseWithPBlock,
)
from protocols.dlms.apdu.block_transfer import GeneralBlockTransfer
from protocols.dlms.apdu.exceptions import ExceptionResponseApdu
from protocols.dlms.apdu.fields import (
    AttributeItem,
    InvokeIdAndPriority,
    LongInvokeIdAndPriority,
    Raw,
    Selection,
    check_raw,
)
from protocols.dlms.apdu.get import (
    GetRequestNext,
    GetRequestNormal,
    GetRequestWithList,
    GetResponseNormal,
    GetResponseWithBlock,
    GetResponseWithList,
)
from protocols.dlms.apdu.notification import (
    DataNotification,
    DataNotificationConfirm,
    EventNotificationRequest,
)
from protocols.dlms.apdu.set import (
    SetRequestNormal,
    SetRequestWithBlock,
    SetRequestWithFirstBlock,
    SetRequestWithList,
    SetRequestWithListAndFirstBlock,
    SetResponseBlock,
    SetResponseLastBlock,
    SetResponseLastBlockWithList,
    SetResponseWithList,
)
from protocols.dlms.cosem import Attribute, Method
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.obis import Obis
from protocols.errors import LocalProtocolError, RemoteProtocolError

ID = InvokeIdAndPriority(5, confirmed=True, high_priority=False)  # 45
CLOCK = Attribute(8, Obis.parse("0-0:1.0.0*255"), 2)
CLOCK_HEX = "00080000010000ff02"
ENERGY = Attribute(3, Obis.parse("1-0:1.8.0*255"), 2)
ENERGY_HEX = "00030100010800ff02"
RESET = Method(3, Obis.parse("1-0:1.8.0*255"), 1)
RESET_HEX = "00030100010800ff01"
ZERO, NULL, WORD = Raw(b"\x11\x00"), Raw(b"\x00"), Raw(b"\x12\x01\x02")
STAMP = bytes.fromhex("07e80101010c0000ff800000")

SERVICES = [
    (GetRequestNormal(ID, CLOCK), f"c00145{CLOCK_HEX}00"),
    (GetRequestNormal(ID, ENERGY, Selection(2, b"\x11\x00")), f"c00145{ENERGY_HEX}01021100"),
    (GetRequestNext(ID, 0), "c0024500000000"),
    (
        GetRequestWithList(ID, (AttributeItem(CLOCK), AttributeItem(ENERGY, Selection(1, b"\x00")))),
        f"c0034502{CLOCK_HEX}00{ENERGY_HEX}010100",
    ),
    (
        GetResponseWithList(ID, (ZERO, DataAccessResult.OBJECT_UNDEFINED, NULL)),
        "c4034503 001100 0104 0000",
    ),
    (GetResponseNormal(ID, DataAccessResult.SUCCESS), "c401450100"),
    (GetResponseWithBlock(ID, True, 0, b""), "c4024501000000000000"),
    (SetRequestNormal(ID, ENERGY, Selection(2, b"\x11\x00"), ZERO), f"c10145{ENERGY_HEX}010211001100"),
    (
        SetRequestWithFirstBlock(ID, CLOCK, None, False, 1, b"\x12\x01"),
        f"c10245{CLOCK_HEX}00 00 00000001 021201",
    ),
    (SetRequestWithBlock(ID, True, 2, b"\x02"), "c10345 01 00000002 0102"),
    (
        SetRequestWithList(ID, (AttributeItem(CLOCK), AttributeItem(ENERGY)), (NULL, WORD)),
        f"c1044502{CLOCK_HEX}00{ENERGY_HEX}00 0200120102",
    ),
    (
        SetRequestWithListAndFirstBlock(ID, (AttributeItem(CLOCK),), False, 1, b"\x01"),
        f"c1054501{CLOCK_HEX}00 00 00000001 0101",
    ),
    (SetResponseBlock(ID, 1), "c5024500000001"),
    (SetResponseLastBlock(ID, DataAccessResult.READ_WRITE_DENIED, 2), "c503450300000002"),
    (
        SetResponseLastBlockWithList(ID, (DataAccessResult.SUCCESS, DataAccessResult.OTHER_REASON), 2),
        "c504450200fa00000002",
    ),
    (SetResponseWithList(ID, (DataAccessResult.SUCCESS, DataAccessResult.TYPE_UNMATCHED)), "c5054502000c"),
    (ActionRequestNextPBlock(ID, 3), "c3024500000003"),
    (ActionRequestWithList(ID, (RESET, RESET), (ZERO, NULL)), f"c3034502{RESET_HEX}{RESET_HEX}02110000"),
    (
        ActionRequestWithFirstPBlock(ID, RESET, False, 1, b"\x11"),
        f"c30445{RESET_HEX} 00 00000001 0111",
    ),
    (
        ActionRequestWithListAndFirstPBlock(ID, (RESET,), False, 1, b"\x01"),
        f"c3054501{RESET_HEX} 00 00000001 0101",
    ),
    (ActionRequestWithPBlock(ID, True, 2, b"\x00"), "c30645 01 00000002 0100"),
    (ActionResponseWithPBlock(ID, False, 1, b"\x01"), "c70245 00 00000001 0101"),
    (
        ActionResponseWithList(
            ID,
            (
                ActionOutcome(ActionResult.SUCCESS),
                ActionOutcome(ActionResult.SUCCESS, WORD),
                ActionOutcome(ActionResult.OTHER_REASON, DataAccessResult.SUCCESS),
            ),
        ),
        "c7034503 0000 000100120102 fa010100",
    ),
    (ActionResponseNextPBlock(ID, 3), "c7044500000003"),
    (
        DataNotification(LongInvokeIdAndPriority(1, confirmed=True), STAMP, ZERO),
        f"0f400000010c{STAMP.hex()}1100",
    ),
    (
        DataNotification(LongInvokeIdAndPriority(0, confirmed=True), STAMP, ZERO, tagged_time=True),
        f"0f40000000090c{STAMP.hex()}1100",
    ),
    (DataNotificationConfirm(LongInvokeIdAndPriority(0xFFFFFF, high_priority=True)), "1080ffffff00"),
    (EventNotificationRequest(None, ENERGY, ZERO), f"c200{ENERGY_HEX}1100"),
    (EventNotificationRequest(STAMP, ENERGY, ZERO), f"c2010c{STAMP.hex()}{ENERGY_HEX}1100"),
    (ExceptionResponseApdu(1, 3), "d80103"),
    (ExceptionResponseApdu(1, 6, 0), "d8010600000000"),
    (GeneralBlockTransfer(True, False, 1, 2, 1, b"\xc4"), "e0810002000101c4"),
    (GeneralBlockTransfer(False, True, 63, 1, 0, b""), "e07f0001000000"),
    (
        AccessRequest(
            LongInvokeIdAndPriority(1, confirmed=True),
            None,
            (
                AccessGet(CLOCK),
                AccessSet(ENERGY),
                AccessAction(RESET),
                AccessGet(ENERGY, Selection(2, b"\x00")),
                AccessSet(ENERGY, Selection(1, b"\x11\x01")),
            ),
            (NULL, ZERO, ZERO, NULL, WORD),
        ),
        (
            f"d94000000100 05 01{CLOCK_HEX} 02{ENERGY_HEX} 03{RESET_HEX} 04{ENERGY_HEX}0200"
            f" 05{ENERGY_HEX}011101"
            " 05 00 1100 1100 00 120102"
        ),
    ),
    (
        AccessResponse(
            LongInvokeIdAndPriority(1, confirmed=True),
            STAMP,
            None,
            (WORD, NULL, NULL),
            (
                AccessGetResult(DataAccessResult.SUCCESS),
                AccessSetResult(DataAccessResult.READ_WRITE_DENIED),
                AccessActionResult(ActionResult.HARDWARE_FAULT),
            ),
        ),
        f"da400000010c{STAMP.hex()} 00 03 120102 00 00 03 0100 0203 0301",
    ),
    (
        AccessResponse(
            LongInvokeIdAndPriority(2),
            None,
            (AccessGet(CLOCK),),
            (NULL,),
            (AccessGetResult(DataAccessResult.OTHER_REASON),),
        ),
        f"da0000000200 0101 01{CLOCK_HEX} 01 00 01 01fa",
    ),
]


@pytest.mark.parametrize(("message", "data"), SERVICES, ids=lambda value: type(value).__name__)
def test_bytes_by_hand(message: apdu.Apdu, data: str) -> None:
    assert apdu.encode(message) == bytes.fromhex(data)
    assert apdu.decode_strict(bytes.fromhex(data)) == message


def test_bits_of_the_invoke_ids() -> None:
    assert InvokeIdAndPriority(0, confirmed=False, high_priority=False).to_byte() == 0x00
    assert InvokeIdAndPriority(15).to_byte() == 0xCF
    assert LongInvokeIdAndPriority.from_int(0x1F00_0007) == LongInvokeIdAndPriority(7, self_descriptive=True)
    assert LongInvokeIdAndPriority(0, break_on_error=True).to_bytes().hex() == "20000000"
    assert LongInvokeIdAndPriority(0, high_priority=True).to_bytes().hex() == "80000000"


def test_reserved_bits_of_the_invoke_id_are_ignored() -> None:
    assert apdu.decode(bytes.fromhex("c0027500000001")) == GetRequestNext(ID, 1)


@pytest.mark.parametrize(
    ("data", "offset", "reason"),
    [
        (f"c00145{CLOCK_HEX}02", 12, "get-request: presence of the selective access is 0x02"),
        (f"c00145{CLOCK_HEX}0102ee", 14, "get-request: access parameters"),
        ("c00345ff", 3, "get-request: attribute list: length of 127 bytes"),
        ("c0034584ffffffff", 3, "4294967295 entries claimed for the attribute list"),
        ("c4014502", 3, "get-response: result choice 2"),
        ("c40145014d", 4, "data-access-result 77 is not in the standard"),
        ("c4014500", 4, "get-response: cut short before the data"),
        ("c402450100000001000211", 11, "get-response: cut short in the raw data"),
        ("c40245010000000100011122", 11, "get-response: 1 bytes follow"),
        ("c4024501000000010080", 9, "get-response: raw data: length of 0 bytes"),
        ("c40245010000000100850000000000", 9, "get-response: raw data: length of 5 bytes"),
        (f"c1044501{CLOCK_HEX}000200001100", 14, "2 values for 1 attributes"),
        (f"c3034501{RESET_HEX}00", 13, "0 parameters for 1 methods"),
        ("c701454d00", 3, "action-result 77 is not in the standard"),
        ("c501454d", 3, "data-access-result 77 is not in the standard"),
        ("c70845", 1, "action-response: response type 8"),
        ("0f000000000b" + "00" * 12, 5, "date-time of 11 bytes"),
        ("0f00000000", 5, "data-notification: cut short before the date-time"),
        ("0f0000000000", 6, "data-notification: cut short before the body"),
        ("d80106000000", 6, "exception-response: cut short in the invocation counter"),
        ("d8010300000001", 3, "exception-response: 4 bytes follow"),
        ("e0810002000102c4", 8, "general-block-transfer: cut short in the block data"),
        ("d9000000000001060008", 7, "access choice 6"),
        (f"d900000000000101{CLOCK_HEX}00", 17, "0 data for 1 access specifications"),
        ("da0000000000000100" + "00", 9, "0 results for 1 data"),
        ("da00000000000001000104fa", 10, "access-response: result choice 4"),
        ("05", 0, "read-request: short-name referencing is not supported"),
        ("38", 0, "glo-information-report-request: short-name referencing is not supported"),
        ("df00", 0, "general-signing: ECDSA signatures are not supported"),
        ("ff", 0, "unknown APDU 0xff"),
        ("", 0, "empty APDU"),
    ],
)
def test_malformed(data: str, offset: int, reason: str) -> None:
    with pytest.raises(RemoteProtocolError, match=reason) as caught:
        apdu.decode(bytes.fromhex(data))
    assert caught.value.offset == offset


def test_the_value_that_ends_an_apdu_is_left_to_its_reader() -> None:
    beyond = bytes.fromhex("c4014500110000")
    response = apdu.decode(beyond)
    assert response == GetResponseNormal(ID, Raw(b"\x11\x00\x00"))
    with pytest.raises(RemoteProtocolError, match="get-response: 1 bytes follow the A-XDR value") as caught:
        apdu.decode_strict(beyond)
    assert caught.value.offset == 6


def test_check_raw_gives_the_offset_in_the_apdu() -> None:
    check_raw(WORD)
    with pytest.raises(RemoteProtocolError) as caught:
        check_raw(Raw(b"\x12\x01"), base=4)
    assert caught.value.offset is not None
    assert caught.value.offset >= 4


def test_an_old_invocation_counter_error_has_no_counter() -> None:
    assert apdu.decode(bytes.fromhex("d80106")) == ExceptionResponseApdu(1, 6, None)


def test_exceptions_in_words() -> None:
    assert str(ExceptionResponseApdu(1, 6, 0)) == (
        "service not allowed, invocation counter error, it expects counter 0"
    )
    assert str(ExceptionResponseApdu(9, 2)) == "code 9 that is not in the standard, service not supported"


@pytest.mark.parametrize(
    "wrong",
    [
        GetRequestNext(InvokeIdAndPriority(16), 0),
        GetRequestNext(InvokeIdAndPriority(-1), 0),
        GetRequestNext(ID, 2**32),
        GetRequestNext(ID, -1),
        GetRequestNormal(ID, Attribute(65536, CLOCK.obis, 2)),
        GetRequestNormal(ID, Attribute(8, CLOCK.obis, 128)),
        GetRequestNormal(ID, CLOCK, Selection(256, b"\0")),
        SetRequestWithList(ID, (AttributeItem(CLOCK),), ()),
        ActionRequestWithList(ID, (), (ZERO,)),
        DataNotification(LongInvokeIdAndPriority(2**24), None, ZERO),
        DataNotification(LongInvokeIdAndPriority(0), b"\0" * 11, ZERO),
        GeneralBlockTransfer(False, False, 64, 0, 0, b""),
        GeneralBlockTransfer(False, False, 0, 65536, 0, b""),
        ExceptionResponseApdu(256, 0),
        AccessRequest(LongInvokeIdAndPriority(0), None, (AccessGet(CLOCK),), ()),
        AccessResponse(LongInvokeIdAndPriority(0), None, None, (ZERO,), ()),
        AccessResponse(LongInvokeIdAndPriority(0), None, (AccessGet(CLOCK),), (), ()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_does_not_fit_is_our_fault(wrong: apdu.Apdu) -> None:
    with pytest.raises(LocalProtocolError):
        apdu.encode(wrong)


def test_values_stay_out_of_repr() -> None:
    secret = b"\x09\x08hunter2!"
    for message in (
        SetRequestNormal(ID, CLOCK, None, Raw(secret)),
        SetRequestWithBlock(ID, True, 1, secret),
        ActionRequestWithPBlock(ID, True, 1, secret),
        GetResponseWithBlock(ID, True, 1, secret),
    ):
        assert "hunter2" not in repr(message)
    assert "<10 bytes>" in repr(SetRequestNormal(ID, CLOCK, None, Raw(secret)))


def test_names() -> None:
    assert apdu.name_of(0xC4) == "get-response"
    assert apdu.name_of(0xCC) == "glo-get-response"
    assert apdu.name_of(0xDF) == "general-signing"
    assert apdu.name_of(0x0C) == "read-response"
    assert apdu.name_of(0xFE) == "unknown APDU 0xfe"


@pytest.mark.parametrize("last", [0x01, 0xFF])
def test_any_byte_but_zero_is_true(last: int) -> None:
    block = GetResponseWithBlock(ID, True, 1, b"\x11")
    assert apdu.decode(bytes.fromhex(f"c40245{last:02x}00000001000111")) == block
    refused = GetResponseWithBlock(ID, True, 1, DataAccessResult.LONG_GET_ABORTED)
    assert apdu.decode(bytes.fromhex(f"c40245{last:02x}00000001010f")) == refused


@pytest.mark.parametrize("head", ["8190", "820090", "83000090", "8400000090"])
def test_block_lengths_in_every_form(head: str) -> None:
    data = bytes.fromhex(f"c40245000000000100{head}") + bytes(0x90)
    assert apdu.decode(data) == GetResponseWithBlock(ID, False, 1, bytes(0x90))


def test_a_length_byte_of_the_long_form_is_no_length() -> None:
    with pytest.raises(RemoteProtocolError, match="get-response: raw data: length of 16 bytes"):
        apdu.decode(bytes.fromhex("c40245000000000100" + "90") + bytes(0x90))
