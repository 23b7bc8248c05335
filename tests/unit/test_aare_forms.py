"""AAREs that were recognised by their form say what a decoder finds in them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms.apdu.aare_forms import LONGEST, MOST, AareForms, Answer
from protocols.dlms.apdu.acse import Aare, Diagnostic, DiagnosticSource, decode_aare
from protocols.dlms.enums import ApplicationContext, AssociationResult, Mechanism
from protocols.errors import RemoteProtocolError


def aare(
    title: bytes | None,
    challenge: bytes | None,
    information: bytes | None,
    result: AssociationResult = AssociationResult.ACCEPTED,
) -> bytes:
    return Aare(
        ApplicationContext.LN_CIPHERED,
        result,
        Diagnostic(DiagnosticSource.USER, 14),
        responding_ap_title=title,
        mechanism=Mechanism.HLS_GMAC,
        responding_authentication_value=challenge,
        user_information=information,
        acse_requirements=True,
    ).to_bytes()


def told(apdu: bytes) -> tuple[object, ...]:
    found = decode_aare(apdu)
    return (
        found.responding_ap_title, found.responding_authentication_value, found.user_information,
        found.context, found.result, found.diagnostic, found.mechanism, found.acse_requirements,
    )  # fmt: skip


def read(answer: Answer) -> tuple[object, ...]:
    like = answer.like
    return (
        answer.title, answer.challenge, answer.information,
        like.context, like.result, like.diagnostic, like.mechanism, like.acse_requirements,
    )  # fmt: skip


parts = st.one_of(st.none(), st.binary(max_size=20))


@given(st.lists(st.tuples(parts, parts, parts, st.sampled_from(AssociationResult)), min_size=1, max_size=12))
def test_an_answer_says_what_decoding_says(some: list[tuple[bytes, bytes, bytes, AssociationResult]]) -> None:
    forms = AareForms()
    for apdu in [aare(*one) for one in some] * 2:
        assert read(forms.read(apdu)) == told(apdu)


def test_meters_of_a_kind_have_one_form() -> None:
    forms = AareForms()
    for number in range(50):
        apdu = aare(number.to_bytes(8, "big"), number.to_bytes(16, "little"), bytes((number,)) * 31)
        assert read(forms.read(apdu)) == told(apdu)
    assert len(forms) == 1


def test_a_byte_that_is_none_of_the_meter_s_is_decoded_anew() -> None:
    forms = AareForms()
    usual = aare(b"METER001", bytes(16), bytes(31))
    forms.read(usual)
    for at in range(len(usual)):
        changed = usual[:at] + bytes((usual[at] ^ 0xFF,)) + usual[at + 1 :]
        try:
            expected = told(changed)
        except RemoteProtocolError as error:
            with pytest.raises(RemoteProtocolError, match=error.reason[:20]):
                forms.read(changed)
        else:
            assert read(forms.read(changed)) == expected


def test_what_is_remembered_is_bounded() -> None:
    forms = AareForms()
    for size in range(200):
        for result in AssociationResult:
            forms.read(aare(b"METER001", bytes(16), bytes(size), result))
    assert 0 < len(forms) <= MOST
    for _ in range(100):
        before = len(forms)
        forms.read(aare(b"METER001", bytes(16), bytes(LONGEST)))
        assert len(forms) == before
