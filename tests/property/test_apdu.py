"""Round trip of every APDU; and any bytes give an APDU or a RemoteProtocolError with an offset."""

import dataclasses
import types
import typing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.dlms import apdu, axdr
from protocols.dlms.apdu import (
    access,
    acse,
    action,
    block_transfer,
    ciphered,
    exceptions,
    get,
    initiate,
    notification,
)
from protocols.dlms.apdu import (
    set as set_service,
)
from protocols.dlms.apdu.fields import (
    AttributeItem,
    InvokeIdAndPriority,
    LongInvokeIdAndPriority,
    Raw,
    Selection,
)
from protocols.dlms.cosem import Attribute, Method
from protocols.dlms.enums import (
    ActionResult,
    ApplicationContext,
    AssociationResult,
    Conformance,
    DataAccessResult,
    Mechanism,
)
from protocols.dlms.obis import Obis
from protocols.errors import RemoteProtocolError

u8, u16, u32 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32))
signed = st.integers(-(2**31), 2**31 - 1)
# Lengths around those where their encoding grows.
octets = st.one_of(
    st.binary(max_size=40), st.sampled_from([127, 128, 255, 256, 1024]).map(lambda size: b"\xa5" * size)
)
optional_octets = st.none() | octets
date_times = st.none() | st.binary(min_size=12, max_size=12)
titles = st.sampled_from([b"", b"HED\0\0\0\0\1"])
invokes = st.builds(InvokeIdAndPriority, st.integers(0, 15), st.booleans(), st.booleans())
long_invokes = st.builds(
    LongInvokeIdAndPriority,
    st.integers(0, 2**24 - 1),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
values = st.recursive(
    st.sampled_from([axdr.u8(0), axdr.u32(2**32 - 1), axdr.octets(bytes(130)), axdr.visible("kWh")]),
    lambda inner: (
        st.lists(inner, max_size=4).map(axdr.array)
        | st.lists(inner, max_size=4).map(lambda x: axdr.structure(*x))
    ),
    max_leaves=6,
).map(axdr.encode)
raws = values.map(Raw)
names = st.binary(min_size=6, max_size=6).map(Obis.from_bytes)
attributes = st.builds(Attribute, u16, names, st.integers(-128, 127))
methods = st.builds(Method, u16, names, st.integers(-128, 127))
selections = st.builds(Selection, u8, values)
items = st.builds(AttributeItem, attributes, st.none() | selections)
data_results = st.sampled_from(DataAccessResult)
action_results = st.sampled_from(ActionResult)
outcomes = st.builds(action.ActionOutcome, action_results, st.none() | raws | data_results)
specs = st.one_of(
    st.builds(access.AccessGet, attributes, st.none() | selections),
    st.builds(access.AccessSet, attributes, st.none() | selections),
    st.builds(access.AccessAction, methods),
)
access_results = st.one_of(
    st.builds(access.AccessGetResult, data_results),
    st.builds(access.AccessSetResult, data_results),
    st.builds(access.AccessActionResult, action_results),
)
bodies = st.builds(ciphered.SecuredBody, u8, u32, octets)
key_infos = st.one_of(
    st.none(),
    st.builds(ciphered.IdentifiedKey, st.sampled_from(ciphered.IdentifiedKeyId)),
    st.builds(ciphered.WrappedKey, u8, octets),
    st.builds(ciphered.AgreedKey, octets, octets),
)


def tuples(entries: st.SearchStrategy[typing.Any], size: int | None = None) -> st.SearchStrategy[typing.Any]:
    """Tuples of up to four, or of exactly ``size``."""
    return st.lists(entries, min_size=size or 0, max_size=4 if size is None else size).map(tuple)


def same_length(*entries: st.SearchStrategy[typing.Any]) -> st.SearchStrategy[typing.Any]:
    """Tuples that belong together entry by entry."""
    return st.integers(0, 4).flatmap(lambda size: st.tuples(*(tuples(entry, size) for entry in entries)))


conformance = st.integers(0, 2**24 - 1).map(Conformance)
reasons = st.none() | st.integers(-(2**31), 2**31 - 1)

APDUS: dict[type, st.SearchStrategy[typing.Any]] = {
    acse.Aarq: st.builds(
        acse.Aarq,
        context=st.sampled_from(ApplicationContext),
        mechanism=st.none() | st.sampled_from(Mechanism),
        calling_ap_title=optional_octets,
        calling_authentication_value=optional_octets,
        user_information=optional_octets,
        called_ap_title=optional_octets,
        called_ae_qualifier=optional_octets,
        called_ap_invocation_id=st.none() | signed,
        called_ae_invocation_id=st.none() | signed,
        calling_ae_qualifier=optional_octets,
        calling_ap_invocation_id=st.none() | signed,
        calling_ae_invocation_id=st.none() | signed,
        acse_requirements=st.none() | st.booleans(),
        implementation_information=optional_octets,
        protocol_version=optional_octets,
    ),
    acse.Aare: st.builds(
        acse.Aare,
        context=st.sampled_from(ApplicationContext),
        result=st.sampled_from(AssociationResult),
        diagnostic=st.builds(acse.Diagnostic, st.sampled_from(acse.DiagnosticSource), signed),
        responding_ap_title=optional_octets,
        mechanism=st.none() | st.sampled_from(Mechanism),
        responding_authentication_value=optional_octets,
        user_information=optional_octets,
        responding_ae_qualifier=optional_octets,
        responding_ap_invocation_id=st.none() | signed,
        responding_ae_invocation_id=st.none() | signed,
        acse_requirements=st.none() | st.booleans(),
        implementation_information=optional_octets,
        protocol_version=optional_octets,
    ),
    acse.Rlrq: st.builds(acse.Rlrq, reasons, optional_octets),
    acse.Rlre: st.builds(acse.Rlre, reasons, optional_octets),
    initiate.InitiateRequest: st.builds(
        initiate.InitiateRequest,
        conformance,
        u16,
        optional_octets,
        st.booleans(),
        st.none() | st.integers(-128, 127),
        u8,
    ),
    initiate.InitiateResponse: st.builds(
        initiate.InitiateResponse, conformance, u16, u16, st.none() | st.integers(-128, 127), u8
    ),
    initiate.ConfirmedServiceError: st.builds(initiate.ConfirmedServiceError, u8, u8, u8),
    get.GetRequestNormal: st.builds(get.GetRequestNormal, invokes, attributes, st.none() | selections),
    get.GetRequestNext: st.builds(get.GetRequestNext, invokes, u32),
    get.GetRequestWithList: st.builds(get.GetRequestWithList, invokes, tuples(items)),
    get.GetResponseNormal: st.builds(get.GetResponseNormal, invokes, raws | data_results),
    get.GetResponseWithBlock: st.builds(
        get.GetResponseWithBlock, invokes, st.booleans(), u32, octets | data_results
    ),
    get.GetResponseWithList: st.builds(get.GetResponseWithList, invokes, tuples(raws | data_results)),
    set_service.SetRequestNormal: st.builds(
        set_service.SetRequestNormal, invokes, attributes, st.none() | selections, raws
    ),
    set_service.SetRequestWithFirstBlock: st.builds(
        set_service.SetRequestWithFirstBlock,
        invokes,
        attributes,
        st.none() | selections,
        st.booleans(),
        u32,
        octets,
    ),
    set_service.SetRequestWithBlock: st.builds(
        set_service.SetRequestWithBlock, invokes, st.booleans(), u32, octets
    ),
    set_service.SetRequestWithList: st.builds(
        lambda invoke, both: set_service.SetRequestWithList(invoke, *both), invokes, same_length(items, raws)
    ),
    set_service.SetRequestWithListAndFirstBlock: st.builds(
        set_service.SetRequestWithListAndFirstBlock, invokes, tuples(items), st.booleans(), u32, octets
    ),
    set_service.SetResponseNormal: st.builds(set_service.SetResponseNormal, invokes, data_results),
    set_service.SetResponseBlock: st.builds(set_service.SetResponseBlock, invokes, u32),
    set_service.SetResponseLastBlock: st.builds(set_service.SetResponseLastBlock, invokes, data_results, u32),
    set_service.SetResponseLastBlockWithList: st.builds(
        set_service.SetResponseLastBlockWithList, invokes, tuples(data_results), u32
    ),
    set_service.SetResponseWithList: st.builds(
        set_service.SetResponseWithList, invokes, tuples(data_results)
    ),
    action.ActionRequestNormal: st.builds(action.ActionRequestNormal, invokes, methods, st.none() | raws),
    action.ActionRequestNextPBlock: st.builds(action.ActionRequestNextPBlock, invokes, u32),
    action.ActionRequestWithList: st.builds(
        lambda invoke, both: action.ActionRequestWithList(invoke, *both), invokes, same_length(methods, raws)
    ),
    action.ActionRequestWithFirstPBlock: st.builds(
        action.ActionRequestWithFirstPBlock, invokes, methods, st.booleans(), u32, octets
    ),
    action.ActionRequestWithListAndFirstPBlock: st.builds(
        action.ActionRequestWithListAndFirstPBlock, invokes, tuples(methods), st.booleans(), u32, octets
    ),
    action.ActionRequestWithPBlock: st.builds(
        action.ActionRequestWithPBlock, invokes, st.booleans(), u32, octets
    ),
    action.ActionResponseNormal: st.builds(
        action.ActionResponseNormal, invokes, action_results, st.none() | raws | data_results
    ),
    action.ActionResponseWithPBlock: st.builds(
        action.ActionResponseWithPBlock, invokes, st.booleans(), u32, octets
    ),
    action.ActionResponseWithList: st.builds(action.ActionResponseWithList, invokes, tuples(outcomes)),
    action.ActionResponseNextPBlock: st.builds(action.ActionResponseNextPBlock, invokes, u32),
    notification.DataNotification: st.builds(
        lambda invoke, time, body, tagged: notification.DataNotification(
            invoke, time, body, tagged_time=tagged and time is not None
        ),
        long_invokes,
        date_times,
        raws,
        st.booleans(),
    ),
    notification.DataNotificationConfirm: st.builds(
        notification.DataNotificationConfirm, long_invokes, date_times
    ),
    notification.EventNotificationRequest: st.builds(
        notification.EventNotificationRequest, optional_octets, attributes, raws
    ),
    exceptions.ExceptionResponseApdu: st.one_of(
        st.builds(exceptions.ExceptionResponseApdu, u8, u8),
        st.builds(exceptions.ExceptionResponseApdu, u8, st.just(6), u32),
    ),
    block_transfer.GeneralBlockTransfer: st.builds(
        block_transfer.GeneralBlockTransfer,
        st.booleans(),
        st.booleans(),
        st.integers(0, 63),
        u16,
        u16,
        octets,
    ),
    access.AccessRequest: st.builds(
        lambda invoke, time, both: access.AccessRequest(invoke, time, *both),
        long_invokes,
        date_times,
        same_length(specs, raws),
    ),
    access.AccessResponse: st.builds(
        lambda invoke, time, all_three, told: access.AccessResponse(
            invoke, time, all_three[0] if told else None, *all_three[1:]
        ),
        long_invokes,
        date_times,
        same_length(specs, raws, access_results),
        st.booleans(),
    ),
    ciphered.GlobalCiphered: st.builds(
        ciphered.GlobalCiphered, st.sampled_from(sorted(ciphered.GLOBAL_TAGS)), bodies
    ),
    ciphered.DedicatedCiphered: st.builds(
        ciphered.DedicatedCiphered, st.sampled_from(sorted(ciphered.DEDICATED_TAGS)), bodies
    ),
    ciphered.GeneralGloCiphering: st.builds(ciphered.GeneralGloCiphering, titles, bodies),
    ciphered.GeneralDedCiphering: st.builds(ciphered.GeneralDedCiphering, titles, bodies),
    ciphered.GeneralCiphering: st.builds(
        ciphered.GeneralCiphering, octets, titles, titles, octets, octets, key_infos, bodies
    ),
}
ANY_APDU = st.one_of(*APDUS.values())


def test_no_apdu_is_left_out() -> None:
    assert isinstance(apdu.Apdu, types.UnionType)
    assert set(APDUS) == set(typing.get_args(apdu.Apdu))
    assert all(dataclasses.is_dataclass(kind) for kind in APDUS)


@pytest.mark.parametrize("kind", APDUS)
def test_round_trip(kind: type) -> None:
    @settings(max_examples=25, deadline=None)
    @given(APDUS[kind])
    def holds(message: apdu.Apdu) -> None:
        assert type(message) is kind
        data = apdu.encode(message)
        assert apdu.decode(data) == message
        assert apdu.decode_strict(data) == message
        assert apdu.name_of(data[0])

    holds()


# Where an ending may be left out, a shorter message is a whole one too.
_OPEN_ENDED = (exceptions.ExceptionResponseApdu,)


@settings(max_examples=120, deadline=None)
@given(ANY_APDU)
def test_cut_short_at_any_byte_is_an_error_with_an_offset(message: apdu.Apdu) -> None:
    data = apdu.encode(message)
    cuts = range(len(data)) if len(data) < 200 else [*range(100), *range(len(data) - 20, len(data))]
    for cut in cuts:
        if isinstance(message, _OPEN_ENDED) and cut == 3:
            continue
        with pytest.raises(RemoteProtocolError) as caught:
            apdu.decode_strict(data[:cut])
        assert caught.value.offset is not None
        assert 0 <= caught.value.offset <= cut


@settings(max_examples=120, deadline=None)
@given(ANY_APDU, st.binary(min_size=1, max_size=4))
def test_bytes_behind_a_complete_apdu_are_refused(message: apdu.Apdu, extra: bytes) -> None:
    data = apdu.encode(message)
    if isinstance(message, _OPEN_ENDED) and message.service_error == 6 and len(data) == 3:
        return
    with pytest.raises(RemoteProtocolError) as caught:
        apdu.decode_strict(data + extra)
    assert caught.value.offset is not None


def _decoded(data: bytes) -> apdu.Apdu | RemoteProtocolError:
    try:
        return apdu.decode_strict(data)
    except RemoteProtocolError as error:
        return error


def _holds_for(data: bytes) -> None:
    outcome = _decoded(data)
    if isinstance(outcome, RemoteProtocolError):
        assert outcome.offset is not None
        assert 0 <= outcome.offset <= len(data)
    else:
        # Not always the same bytes: lengths and booleans have more than one form. Always the same message.
        assert apdu.decode(apdu.encode(outcome)) == outcome


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes(data: bytes) -> None:
    _holds_for(data)


TAGS = [tag for tag in range(256) if not apdu.name_of(tag).startswith("unknown")]


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(TAGS), st.integers(0, 7), st.binary(max_size=80))
def test_any_bytes_behind_a_known_tag(tag: int, kind: int, data: bytes) -> None:
    _holds_for(bytes((tag, kind)) + data)


@settings(max_examples=300, deadline=None)
@given(ANY_APDU, st.data())
def test_one_changed_byte(message: apdu.Apdu, data: st.DataObject) -> None:
    changed = bytearray(apdu.encode(message))
    changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(u8)
    _holds_for(bytes(changed))
