"""Associations: ACSE elements and the initiate APDUs inside."""

import pytest

from protocols.dlms import apdu
from protocols.dlms.apdu.acse import Aare, Aarq, Diagnostic, DiagnosticSource, Rlre, Rlrq
from protocols.dlms.apdu.initiate import ConfirmedServiceError, InitiateRequest, InitiateResponse
from protocols.dlms.enums import AcseDiagnostic, ApplicationContext, AssociationResult, Conformance, Mechanism
from protocols.errors import LocalProtocolError, RemoteProtocolError

CONTEXT = "a109060760857405080101"
RESULT = "a203020100"
DIAGNOSTIC = "a305a103020100"
INITIATE = "01000000065f1f0400007e1f04b0"


def _acse(tag: int, *elements: str) -> bytes:
    content = bytes.fromhex("".join(elements))
    return bytes((tag, len(content))) + content


def test_secrets_stay_out_of_repr() -> None:
    request = InitiateRequest(Conformance.GET, 0, dedicated_key=b"\xc5" * 16)
    aarq = Aarq(
        ApplicationContext.LN,
        Mechanism.LLS,
        calling_authentication_value=b"hunter2!",
        user_information=request.to_bytes(),
    )
    for shown in (repr(request), str(request), repr(aarq), f"{aarq}"):
        assert "hunter2" not in shown
        assert "c5" not in shown.lower().replace("\\x", "")


def test_elements_of_an_aarq_have_their_tags() -> None:
    aarq = Aarq(
        ApplicationContext.LN_CIPHERED,
        Mechanism.HLS_GMAC,
        calling_ap_title=b"ABCDEFGH",
        called_ap_title=b"M",
        called_ae_qualifier=b"Q",
        called_ap_invocation_id=0,
        called_ae_invocation_id=1,
        calling_ae_qualifier=b"q",
        calling_ap_invocation_id=-1,
        calling_ae_invocation_id=128,
        acse_requirements=True,
        protocol_version=b"\x07\x80",
    )
    assert aarq.to_bytes().hex() == (
        "604c" "80020780" "a109060760857405080103" "a20304014d" "a303040151" "a403020100" "a503020101"
        "a60a04084142434445464748" "a703040171" "a8030201ff" "a90402020080" "8a020780" "8b0760857405080205"
    )  # fmt: skip
    assert apdu.decode(aarq.to_bytes()) == aarq


def test_elements_may_come_in_any_order_but_once() -> None:
    swapped = _acse(0x61, DIAGNOSTIC, CONTEXT, RESULT)
    aare = apdu.decode(swapped)
    assert isinstance(aare, Aare)
    assert aare.result is AssociationResult.ACCEPTED
    with pytest.raises(RemoteProtocolError, match="AARE: element 0xa2 comes twice") as caught:
        apdu.decode(_acse(0x61, CONTEXT, RESULT, DIAGNOSTIC, RESULT))
    assert caught.value.offset == 2 + 11 + 5 + 7


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (_acse(0x60), "AARQ: the application context name is missing"),
        (_acse(0x61, CONTEXT), "AARE: the result is missing"),
        (_acse(0x61, CONTEXT, RESULT), "AARE: the result source diagnostic is missing"),
        (_acse(0x61, CONTEXT, "a203020103", DIAGNOSTIC), "association result 3 is not in the standard"),
        (_acse(0x61, CONTEXT, RESULT, "a305a303020100"), "does not hold exactly one of its choices"),
        (_acse(0x60, "a109060760857405080109"), "application context 60857405080109 is not one of DLMS"),
        (_acse(0x60, CONTEXT, "8b0760857405080209"), "mechanism 60857405080209 is not one of DLMS"),
        (_acse(0x60, CONTEXT, "aa0a80080000000000000000"), "element 0xaa has no place here"),
        (_acse(0x60, CONTEXT, "ac0381010a"), "BER element 0x81 where 0x80 belongs"),
        (_acse(0x60, CONTEXT, "8a03078000"), "ACSE requirements are not one byte of bits"),
        (_acse(0x60, CONTEXT, "be03040101") + b"\0", "AARQ: 1 bytes follow the complete APDU"),
        (_acse(0x60, CONTEXT, "be0404010100"), "more than one BER element"),
        (_acse(0x62, "800100800100"), "RLRQ: element 0x80 comes twice"),
        (_acse(0x63, "8000"), "RLRE: BER integer of 0 bytes"),
    ],
)
def test_malformed_acse(data: bytes, reason: str) -> None:
    with pytest.raises(RemoteProtocolError, match=reason) as caught:
        apdu.decode(data)
    assert caught.value.offset is not None


def test_provider_diagnostic() -> None:
    aare = apdu.decode(_acse(0x61, CONTEXT, "a203020102", "a305a203020102"))
    assert isinstance(aare, Aare)
    assert aare.result is AssociationResult.REJECTED_TRANSIENT
    assert aare.diagnostic == Diagnostic(DiagnosticSource.PROVIDER, 2)
    assert str(aare.diagnostic) == "no common acse version (provider 2)"


def test_a_diagnostic_of_the_maker_is_kept() -> None:
    aare = apdu.decode(_acse(0x61, CONTEXT, "a203020101", "a305a103020163"))
    assert isinstance(aare, Aare)
    assert aare.diagnostic.value == 0x63
    assert str(aare.diagnostic) == "not in the standard (user 99)"
    failure = Diagnostic(DiagnosticSource.USER, AcseDiagnostic.AUTHENTICATION_FAILURE)
    assert str(failure) == "authentication failure (user 13)"


def test_constructed_implementation_information_is_read() -> None:
    aarq = apdu.decode(_acse(0x60, CONTEXT, "bd024142"))
    assert isinstance(aarq, Aarq)
    assert aarq.implementation_information == b"AB"


def test_release_without_reason_and_with_reason_zero() -> None:
    assert apdu.decode(b"\x62\x00") == Rlrq()
    assert Rlrq().to_bytes() == b"\x62\x00"
    assert Rlre(0).to_bytes() == bytes.fromhex("6303800100")
    assert Rlrq(30).to_bytes() == bytes.fromhex("620380011e")


def test_initiate_zeros_are_values() -> None:
    request = InitiateRequest(Conformance(0), 0, quality_of_service=0, response_allowed=False, dlms_version=0)
    assert request.to_bytes().hex() == "01" "00" "0100" "0100" "00" "5f1f0400000000" "0000"  # fmt: skip
    assert apdu.decode(request.to_bytes()) == request


def test_initiate_response_allowed_said_aloud() -> None:
    said = bytes.fromhex("010001ff00065f1f0400007e1f04b0")
    assert apdu.decode(said) == apdu.decode(bytes.fromhex(INITIATE))


def test_conformance_tag_in_one_byte() -> None:
    assert apdu.decode(bytes.fromhex("0800065f040000501f01f40007")) == InitiateResponse(
        Conformance(0x501F), 500
    )


@pytest.mark.parametrize(
    ("data", "offset", "reason"),
    [
        ("01000000065f1f0300007e1f04b0", 5, "conformance block does not begin with 5f1f0400"),
        ("01000000065f1f0401007e1f04b0", 5, "conformance block does not begin with 5f1f0400"),
        ("0102", 1, "presence of the dedicated key is 0x02"),
        ("01000000065f1f0400007e1f04b000", 14, "1 bytes follow"),
        ("01011000112233", 7, "cut short in the dedicated key"),
        ("0800065f1f040000501f01f4", 12, "cut short in the VAA name"),
        ("0e0106", 3, "cut short before the error value"),
    ],
)
def test_malformed_initiate(data: str, offset: int, reason: str) -> None:
    with pytest.raises(RemoteProtocolError, match=reason) as caught:
        apdu.decode(bytes.fromhex(data))
    assert caught.value.offset == offset


def test_vaa_name_of_short_names_is_unsigned() -> None:
    response = apdu.decode(bytes.fromhex("0800065f1f040000501f01f4fa00"))
    assert isinstance(response, InitiateResponse)
    assert response.vaa_name == 0xFA00


def test_our_own_values_out_of_range() -> None:
    for wrong in (
        InitiateRequest(Conformance(0), 65536),
        InitiateRequest(Conformance(0), -1),
        InitiateRequest(Conformance(0), 0, quality_of_service=128),
        InitiateResponse(Conformance(0), 0, vaa_name=65536),
        ConfirmedServiceError(256, 0, 0),
    ):
        with pytest.raises(LocalProtocolError):
            wrong.to_bytes()


def test_service_errors_in_words() -> None:
    assert str(ConfirmedServiceError(5, 5, 2)) == "read failed, access error: 2"
    assert str(ConfirmedServiceError(19, 99, 0)) == "service 19 failed, group 99 error: 0"
