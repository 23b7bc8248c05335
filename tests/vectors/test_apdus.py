"""Every one of the 100 third-party messages gives its values or its refusal.

Their source says of some that they are "REJECTED": by the one parser class that was under test there. Here
each is decoded by its own tag, so those fall into two sets, both listed below: malformed whatever they are
taken for, and valid messages of another kind.
"""

import json
from pathlib import Path

import pytest

from protocols.dlms import apdu, axdr
from protocols.dlms.apdu.acse import Aare, Aarq, Diagnostic, DiagnosticSource, Rlre, Rlrq
from protocols.dlms.apdu.action import ActionRequestNormal, ActionResponseNormal, ActionResponseWithPBlock
from protocols.dlms.apdu.ciphered import GeneralGloCiphering, GlobalCiphered, SecuredBody
from protocols.dlms.apdu.fields import InvokeIdAndPriority, LongInvokeIdAndPriority, Raw
from protocols.dlms.apdu.get import (
    GetRequestNext,
    GetRequestNormal,
    GetResponseNormal,
    GetResponseWithBlock,
)
from protocols.dlms.apdu.initiate import ConfirmedServiceError, InitiateRequest, InitiateResponse
from protocols.dlms.apdu.notification import DataNotification
from protocols.dlms.apdu.set import SetRequestNormal, SetResponseNormal, SetResponseWithList
from protocols.dlms.cosem import Attribute, Method
from protocols.dlms.enums import (
    AcseDiagnostic,
    ActionResult,
    ApplicationContext,
    AssociationResult,
    Conformance,
    DataAccessResult,
    Mechanism,
)
from protocols.dlms.obis import Obis
from protocols.errors import RemoteProtocolError

DOCUMENT = json.loads((Path(__file__).parent / "dlms" / "apdus.json").read_text())
ENTRIES = {entry["n"]: entry for entry in DOCUMENT["entries"]}
MESSAGES = {n: bytes.fromhex(entry["hex"]) for n, entry in ENTRIES.items()}

LN, CIPHERED = ApplicationContext.LN, ApplicationContext.LN_CIPHERED
ID0, ID1 = InvokeIdAndPriority(0), InvokeIdAndPriority(1)
PASSWORD = b"12345678"
GLO_INITIATE = bytes.fromhex(
    "21303001234567801302ff8a7874133d414ced25b42534d28db0047720606b175bd52211be6841db204d39ee6fdb8e356855"
)
HLS_METHOD = Method(15, Obis.parse("0-0:40.0.0*255"), 1)
HDLC_LLC_LENGTH = 3


def _initiate(proposed: str) -> bytes:
    return bytes.fromhex(proposed)


def _user(value: AcseDiagnostic) -> Diagnostic:
    return Diagnostic(DiagnosticSource.USER, value)


def _block(n: int, number: int, *, last: bool) -> GetResponseWithBlock:
    # tag, type, invoke id, last, number (4), choice, 82 and the length (2): the data begin at byte 12
    return GetResponseWithBlock(ID1, last, number, MESSAGES[n][12:])


# What the source's expressions and the bytes' own fields say of the messages that it accepts.
ACCEPTED = {
    0: Aarq(LN, user_information=_initiate("01000000065f1f0400007e1f04b0")),
    1: Aarq(
        LN,
        Mechanism.LLS,
        calling_authentication_value=PASSWORD,
        user_information=_initiate("01000000065f1f0400007e1f04b0"),
        acse_requirements=True,
    ),
    2: Aarq(
        LN,
        Mechanism.HLS_GMAC,
        calling_authentication_value=b"K56iVagY",
        user_information=_initiate("01000000065f1f0400007e1f04b0"),
        acse_requirements=True,
    ),
    3: Aarq(
        CIPHERED,
        Mechanism.LLS,
        calling_ap_title=bytes.fromhex("4d4d4d0000bc614e"),
        calling_authentication_value=PASSWORD,
        user_information=GLO_INITIATE,
        acse_requirements=True,
    ),
    4: Aarq(
        LN,
        Mechanism.HLS,
        calling_authentication_value=PASSWORD,
        user_information=_initiate("01000000065f1f0400007e1fffff"),
        acse_requirements=True,
    ),
    5: Aarq(LN, user_information=_initiate("01000000065f1f0400001e1dffff")),
    6: Aare(
        LN,
        AssociationResult.ACCEPTED,
        _user(AcseDiagnostic.NULL),
        user_information=_initiate("0800065f1f040000501f01f40007"),
    ),
    7: Aare(
        LN,
        AssociationResult.REJECTED_PERMANENT,
        _user(AcseDiagnostic.APPLICATION_CONTEXT_NAME_NOT_SUPPORTED),
        user_information=_initiate("0800065f1f040000501f01f40007"),
    ),
    8: Aare(
        LN,
        AssociationResult.REJECTED_PERMANENT,
        _user(AcseDiagnostic.NO_REASON_GIVEN),
        user_information=_initiate("0e010601"),
    ),
    9: Aare(
        LN,
        AssociationResult.ACCEPTED,
        _user(AcseDiagnostic.AUTHENTICATION_REQUIRED),
        mechanism=Mechanism.HLS_GMAC,
        responding_authentication_value=b"P6wRJ21F",
        user_information=_initiate("0800065f1f040000501f01f40007"),
        acse_requirements=True,
    ),
    10: Aare(
        LN,
        AssociationResult.ACCEPTED,
        _user(AcseDiagnostic.NULL),
        user_information=_initiate("0800065f1f0400001e1d04c80007"),
    ),
    11: Rlre(0),
    12: Rlre(0, _initiate("080100065f1f0400001e1d04c80007")),
    13: Rlre(0, bytes.fromhex("281f3001234567891214a0845e475714383f65bc19745ca235906525e4f3e1c893")),
    14: Rlrq(0),
    15: Rlrq(0, GLO_INITIATE),
    16: GetRequestNormal(ID1, Attribute(1, Obis.parse("0-0:43.1.0*255"), 2)),
    19: GetRequestNext(ID1, 1),
    24: GetResponseNormal(ID1, Raw(bytes.fromhex("0600001391"))),
    28: GetResponseNormal(ID1, DataAccessResult.HARDWARE_FAULT),
    32: _block(32, 1, last=False),
    36: _block(36, 8, last=False),
    39: _block(39, 19, last=True),
    43: _block(43, 8, last=True),
    46: GetResponseWithBlock(ID1, True, 19, DataAccessResult.HARDWARE_FAULT),
    52: SetRequestNormal(
        ID1,
        Attribute(8, Obis.parse("0-0:1.0.0*255"), 2),
        None,
        Raw(bytes.fromhex("090c07e50118ff0e303950ffc400")),
    ),
    58: SetResponseNormal(ID1, DataAccessResult.SUCCESS),
    64: ActionRequestNormal(ID0, HLS_METHOD, Raw(bytes.fromhex("09111000001a90e6d2221fa2fd85eed61acc22"))),
    65: ActionRequestNormal(ID0, HLS_METHOD),
    70: ActionResponseNormal(ID0, ActionResult.SUCCESS),
    74: ActionResponseNormal(
        ID0, ActionResult.SUCCESS, Raw(bytes.fromhex("09111000001afde8857b728a3499106aa665d1"))
    ),
    77: ActionResponseNormal(ID0, ActionResult.SUCCESS, DataAccessResult.OTHER_REASON),
    80: InitiateRequest(Conformance(0x007E1F), 0x04B0),
    81: InitiateRequest(
        Conformance(0x007E1F), 0x04B0, dedicated_key=bytes.fromhex("00112233445566778899aabbccddeeff")
    ),
    82: InitiateResponse(Conformance(0x00501F), 0x01F4),
    83: InitiateResponse(Conformance(0x001E1D), 0x04C8, quality_of_service=0),
    84: GlobalCiphered(0x21, SecuredBody(0x30, 0x01234567, GLO_INITIATE[7:])),
    85: DataNotification(
        LongInvokeIdAndPriority(475),
        None,
        Raw(
            b'\t"\x12Z\x85\x916\x00\x00\x00\x00I\x00\x00\x00\x11\x00\x00\x00\nZ\x85\x13\xd0\x14\x80\x00\x00\x00'
            b"\r\x00\x00\x00\n\x01\x00"
        ),
    ),
    86: GeneralGloCiphering(bytes.fromhex("2f19229199164103"), SecuredBody(0x30, 0x01E5, MESSAGES[86][16:])),
    98: _block(98, 1, last=False),
}

# "REJECTED" by the source's parser for another kind; by their own tag they are well formed.
REJECTED_BUT_VALID = {
    27: GetResponseNormal(ID1, DataAccessResult.HARDWARE_FAULT),
    31: GetResponseNormal(ID1, Raw(bytes.fromhex("0600001391"))),
    35: _block(35, 1, last=True),
    37: GetResponseWithBlock(ID1, False, 1, DataAccessResult.HARDWARE_FAULT),
    42: _block(42, 1, last=False),
    44: GetResponseWithBlock(ID1, True, 1, DataAccessResult.HARDWARE_FAULT),
    49: GetResponseWithBlock(ID1, False, 19, DataAccessResult.HARDWARE_FAULT),
    50: _block(50, 8, last=True),
    # An empty SEQUENCE OF: pointless, but nothing in the syntax forbids it.
    63: SetResponseWithList(ID1, ()),
    # Read as with-pblock the return parameters are block 0x01000911 of exactly the 0x10 bytes that are left.
    72: ActionResponseWithPBlock(ID0, False, 0x01000911, MESSAGES[72][9:]),
    73: ActionResponseNormal(
        ID0, ActionResult.SUCCESS, Raw(bytes.fromhex("09111000001afde8857b728a3499106aa665d1"))
    ),
    75: ActionResponseNormal(ID0, ActionResult.SUCCESS),
    76: ActionResponseNormal(ID0, ActionResult.SUCCESS, DataAccessResult.HARDWARE_FAULT),
}

# "REJECTED" and malformed for every kind: the offset of the first byte that is wrong or missing, and the
# reason.
REJECTED = {
    17: (13, "cut short before the value"),
    18: (7, "6 bytes follow"),
    20: (7, "cut short in the attribute descriptor"),
    21: (7, "cut short in the attribute descriptor"),
    22: (4, "3 bytes follow"),
    23: (1, "request type 4"),
    25: (9, "cut short in the attribute descriptor"),
    26: (8, "result choice 145"),
    29: (5, "cut short in the attribute descriptor"),
    30: (5, "cut short in the block number"),
    33: (7, "1187 bytes follow"),
    34: (4, "1190 bytes follow"),
    38: (1193, "cut short in the raw data"),
    40: (7, "1187 bytes follow"),
    41: (6, "1188 bytes follow"),
    45: (1192, "cut short in the raw data"),
    47: (7, "3 bytes follow"),
    48: (6, "4 bytes follow"),
    51: (4, "glo-get-response: 6 bytes follow"),
    53: (2, "event-notification-request: time: length of 65 bytes"),
    54: (27, "cut short in the raw data"),
    55: (9, "18 bytes follow"),
    56: (27, "cut short before the value"),
    57: (10, "17 bytes follow"),
    59: (0, "unknown APDU 0xc6"),
    60: (4, "cut short in the block number"),
    61: (4, "cut short in the block number"),
    62: (4, "cut short in the block number"),
    66: (6, "26 bytes follow the A-XDR value"),
    67: (7, "25 bytes follow"),
    68: (6, "7 bytes follow the A-XDR value"),
    69: (7, "6 bytes follow"),
    71: (3, "glo-get-request: 22 bytes follow"),
    78: (3, "glo-get-request: 4 bytes follow"),
    79: (7, "cut short in the block number"),
}

# HDLC frames and wrapper headers: their values are checked where framing is.
FRAMING = {87, 89, 90, 91, 93, 95}
# An HDLC information field: LLC header, then the APDU, which is the content of frames 91 and 93.
WITH_LLC = {
    92: Aarq(LN, user_information=_initiate("01000000065f1f0400001e1dffff")),
    94: Aare(
        LN,
        AssociationResult.ACCEPTED,
        _user(AcseDiagnostic.NULL),
        user_information=_initiate("0800065f1f0400001e1d04c80007"),
    ),
}
DATA = {88, 96, 97, 99}

# What the octet strings named user_information hold.
USER_INFORMATION = {
    0: InitiateRequest(Conformance(0x007E1F), 0x04B0),
    4: InitiateRequest(Conformance(0x007E1F), 0xFFFF),
    5: InitiateRequest(Conformance(0x001E1D), 0xFFFF),
    7: InitiateResponse(Conformance(0x00501F), 0x01F4),
    8: ConfirmedServiceError(service=1, error_group=6, value=1),
    9: InitiateResponse(Conformance(0x00501F), 0x01F4),
    10: InitiateResponse(Conformance(0x001E1D), 0x04C8),
    12: InitiateResponse(Conformance(0x001E1D), 0x04C8, quality_of_service=0),
    13: GlobalCiphered(
        0x28,
        SecuredBody(0x30, 0x01234567, bytes.fromhex("891214a0845e475714383f65bc19745ca235906525e4f3e1c893")),
    ),
    15: GlobalCiphered(0x21, SecuredBody(0x30, 0x01234567, GLO_INITIATE[7:])),
}


def test_every_message_is_in_exactly_one_set() -> None:
    sets = [set(ACCEPTED), set(REJECTED_BUT_VALID), set(REJECTED), FRAMING, set(WITH_LLC), DATA]
    assert sum(map(len, sets)) == len(ENTRIES) == 100
    assert set().union(*sets) == set(ENTRIES)
    said_rejected = {n for n, entry in ENTRIES.items() if "REJECTED" in entry.get("expected", "")}
    assert said_rejected == set(REJECTED) | set(REJECTED_BUT_VALID)


@pytest.mark.parametrize(("n", "expected"), [*ACCEPTED.items(), *REJECTED_BUT_VALID.items()])
def test_gives_its_values_and_encodes_back(n: int, expected: apdu.Apdu) -> None:
    assert apdu.decode_strict(MESSAGES[n]) == expected
    assert apdu.encode(expected) == MESSAGES[n]


@pytest.mark.parametrize(("n", "expected"), REJECTED.items())
def test_malformed_is_refused_with_offset_and_reason(n: int, expected: tuple[int, str]) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        apdu.decode_strict(MESSAGES[n])
    offset, reason = expected
    assert caught.value.offset == offset
    assert reason in caught.value.reason


@pytest.mark.parametrize(("n", "expected"), WITH_LLC.items())
def test_information_field_behind_its_llc_header(n: int, expected: apdu.Apdu) -> None:
    assert apdu.decode(MESSAGES[n][HDLC_LLC_LENGTH:]) == expected


@pytest.mark.parametrize("n", sorted(FRAMING))
def test_a_frame_is_no_apdu(n: int) -> None:
    with pytest.raises(RemoteProtocolError, match="unknown APDU"):
        apdu.decode(MESSAGES[n])


@pytest.mark.parametrize(("n", "expected"), USER_INFORMATION.items())
def test_user_information(n: int, expected: apdu.Apdu) -> None:
    holder = apdu.decode(MESSAGES[n])
    assert isinstance(holder, Aarq | Aare | Rlrq | Rlre)
    assert holder.user_information is not None
    assert apdu.decode(holder.user_information) == expected


def test_service_error_says_what_is_wrong() -> None:
    assert str(USER_INFORMATION[8]) == "initiate failed, initiate error: DLMS version too low"


def test_null_compressed_profile_rows() -> None:
    rows = axdr.decode_exact(MESSAGES[88]).value
    assert len(rows) == 4
    assert all(len(row.value) == 4 for row in rows)
    assert rows[0].value[0].value == bytes.fromhex("07e30c1f0217000000ffc400")
    assert [row.value[0].type for row in rows[1:]] == [axdr.DataType.NULL] * 3


def test_structures() -> None:
    quality = axdr.decode_exact(MESSAGES[96]).value
    assert [item.value for item in quality] == [720, 3240, 18, 30, -64]
    cell = axdr.decode_exact(MESSAGES[97]).value
    assert [item.value for item in cell] == [0, 0, 0, 0, 0, 0, 0]


def test_profile_behind_a_result_choice() -> None:
    # Byte 0 is the choice "data" of Get-Data-Result, the array begins behind it.
    data = axdr.decode_exact(MESSAGES[99][1:])
    assert len(data.value) == 24
    assert all(len(row.value) == 3 for row in data.value)
    assert isinstance(data.value[0].value[0].value, bytes)
    assert [item.value for item in data.value[0].value[1:]] == [0, 0x000186A0]
