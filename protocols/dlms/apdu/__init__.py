"""xDLMS and ACSE APDUs: `decode` bytes by their tag, `encode` any of the dataclasses.

Values inside APDUs stay undecoded A-XDR bytes (`Raw`). `decode` measures them where something follows and
takes the rest of the APDU where nothing does; `decode_strict` checks that rest as well.
"""

from collections.abc import Callable

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
    set,  # noqa: A004  # the service's name; the builtin is not used here
)
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
from protocols.dlms.apdu.acse import Aare, Aarq, Diagnostic, DiagnosticSource, Rlre, Rlrq
from protocols.dlms.apdu.action import (
    ActionOutcome,
    ActionRequestNextPBlock,
    ActionRequestNormal,
    ActionRequestWithFirstPBlock,
    ActionRequestWithList,
    ActionRequestWithListAndFirstPBlock,
    ActionRequestWithPBlock,
    ActionResponseNextPBlock,
    ActionResponseNormal,
    ActionResponseWithList,
    ActionResponseWithPBlock,
)
from protocols.dlms.apdu.block_transfer import GeneralBlockTransfer
from protocols.dlms.apdu.ciphered import (
    AgreedKey,
    DedicatedCiphered,
    GeneralCiphering,
    GeneralDedCiphering,
    GeneralGloCiphering,
    GlobalCiphered,
    IdentifiedKey,
    IdentifiedKeyId,
    SecuredBody,
    WrappedKey,
)
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
from protocols.dlms.apdu.initiate import ConfirmedServiceError, InitiateRequest, InitiateResponse
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
    SetResponseNormal,
    SetResponseWithList,
)
from protocols.errors import RemoteProtocolError

__all__ = [
    "Aare",
    "Aarq",
    "AccessAction",
    "AccessActionResult",
    "AccessGet",
    "AccessGetResult",
    "AccessRequest",
    "AccessResponse",
    "AccessSet",
    "AccessSetResult",
    "ActionOutcome",
    "ActionRequestNextPBlock",
    "ActionRequestNormal",
    "ActionRequestWithFirstPBlock",
    "ActionRequestWithList",
    "ActionRequestWithListAndFirstPBlock",
    "ActionRequestWithPBlock",
    "ActionResponseNextPBlock",
    "ActionResponseNormal",
    "ActionResponseWithList",
    "ActionResponseWithPBlock",
    "AgreedKey",
    "Apdu",
    "AttributeItem",
    "ConfirmedServiceError",
    "DataNotification",
    "DataNotificationConfirm",
    "DedicatedCiphered",
    "Diagnostic",
    "DiagnosticSource",
    "EventNotificationRequest",
    "ExceptionResponseApdu",
    "GeneralBlockTransfer",
    "GeneralCiphering",
    "GeneralDedCiphering",
    "GeneralGloCiphering",
    "GetRequestNext",
    "GetRequestNormal",
    "GetRequestWithList",
    "GetResponseNormal",
    "GetResponseWithBlock",
    "GetResponseWithList",
    "GlobalCiphered",
    "IdentifiedKey",
    "IdentifiedKeyId",
    "InitiateRequest",
    "InitiateResponse",
    "InvokeIdAndPriority",
    "LongInvokeIdAndPriority",
    "Raw",
    "Rlre",
    "Rlrq",
    "SecuredBody",
    "Selection",
    "SetRequestNormal",
    "SetRequestWithBlock",
    "SetRequestWithFirstBlock",
    "SetRequestWithList",
    "SetRequestWithListAndFirstBlock",
    "SetResponseBlock",
    "SetResponseLastBlock",
    "SetResponseLastBlockWithList",
    "SetResponseNormal",
    "SetResponseWithList",
    "WrappedKey",
    "check_raw",
    "decode",
    "decode_strict",
    "encode",
    "name_of",
]

Apdu = (
    Aarq
    | Aare
    | Rlrq
    | Rlre
    | InitiateRequest
    | InitiateResponse
    | ConfirmedServiceError
    | get.GetRequest
    | get.GetResponse
    | set.SetRequest
    | set.SetResponse
    | action.ActionRequest
    | action.ActionResponse
    | DataNotification
    | DataNotificationConfirm
    | EventNotificationRequest
    | ExceptionResponseApdu
    | GeneralBlockTransfer
    | AccessRequest
    | AccessResponse
    | GlobalCiphered
    | DedicatedCiphered
    | GeneralGloCiphering
    | GeneralDedCiphering
    | GeneralCiphering
)

_DECODERS: dict[int, Callable[[bytes], Apdu]] = {
    **acse.DECODERS,
    initiate.REQUEST_TAG: initiate.decode_request,
    initiate.RESPONSE_TAG: initiate.decode_response,
    initiate.SERVICE_ERROR_TAG: initiate.decode_service_error,
    get.REQUEST_TAG: get.decode_request,
    get.RESPONSE_TAG: get.decode_response,
    set.REQUEST_TAG: set.decode_request,
    set.RESPONSE_TAG: set.decode_response,
    action.REQUEST_TAG: action.decode_request,
    action.RESPONSE_TAG: action.decode_response,
    notification.DATA_TAG: notification.decode_data,
    notification.CONFIRM_TAG: notification.decode_confirm,
    notification.EVENT_TAG: notification.decode_event,
    exceptions.TAG: exceptions.decode,
    block_transfer.TAG: block_transfer.decode,
    access.REQUEST_TAG: access.decode_request,
    access.RESPONSE_TAG: access.decode_response,
    **dict.fromkeys(ciphered.GLOBAL_TAGS, ciphered.decode_global),
    **dict.fromkeys(ciphered.DEDICATED_TAGS, ciphered.decode_dedicated),
    ciphered.GENERAL_GLO_TAG: ciphered.decode_general_glo,
    ciphered.GENERAL_DED_TAG: ciphered.decode_general_ded,
    ciphered.GENERAL_TAG: ciphered.decode_general,
}

# Known to the standard, not to us, and refused by name.
_SHORT_NAME = "short-name referencing is not supported"
_UNSUPPORTED = {
    0x05: ("read-request", _SHORT_NAME),
    0x06: ("write-request", _SHORT_NAME),
    0x0C: ("read-response", _SHORT_NAME),
    0x0D: ("write-response", _SHORT_NAME),
    0x16: ("unconfirmed-write-request", _SHORT_NAME),
    0x18: ("information-report-request", _SHORT_NAME),
    0x25: ("glo-read-request", _SHORT_NAME),
    0x26: ("glo-write-request", _SHORT_NAME),
    0x2C: ("glo-read-response", _SHORT_NAME),
    0x2D: ("glo-write-response", _SHORT_NAME),
    0x36: ("glo-unconfirmed-write-request", _SHORT_NAME),
    0x38: ("glo-information-report-request", _SHORT_NAME),
    0x45: ("ded-read-request", _SHORT_NAME),
    0x46: ("ded-write-request", _SHORT_NAME),
    0x4C: ("ded-read-response", _SHORT_NAME),
    0x4D: ("ded-write-response", _SHORT_NAME),
    0x56: ("ded-unconfirmed-write-request", _SHORT_NAME),
    0x58: ("ded-information-report-request", _SHORT_NAME),
    0xDF: ("general-signing", "ECDSA signatures are not supported"),
}

_NAMES = {
    acse.AARQ_TAG: "AARQ",
    acse.AARE_TAG: "AARE",
    acse.RLRQ_TAG: "RLRQ",
    acse.RLRE_TAG: "RLRE",
    initiate.REQUEST_TAG: "initiate-request",
    initiate.RESPONSE_TAG: "initiate-response",
    initiate.SERVICE_ERROR_TAG: "confirmed-service-error",
    get.REQUEST_TAG: "get-request",
    get.RESPONSE_TAG: "get-response",
    set.REQUEST_TAG: "set-request",
    set.RESPONSE_TAG: "set-response",
    action.REQUEST_TAG: "action-request",
    action.RESPONSE_TAG: "action-response",
    notification.DATA_TAG: "data-notification",
    notification.CONFIRM_TAG: "data-notification-confirm",
    notification.EVENT_TAG: "event-notification-request",
    exceptions.TAG: "exception-response",
    block_transfer.TAG: "general-block-transfer",
    access.REQUEST_TAG: "access-request",
    access.RESPONSE_TAG: "access-response",
    **ciphered.GLOBAL_TAGS,
    **ciphered.DEDICATED_TAGS,
    ciphered.GENERAL_GLO_TAG: "general-glo-ciphering",
    ciphered.GENERAL_DED_TAG: "general-ded-ciphering",
    ciphered.GENERAL_TAG: "general-ciphering",
    **{tag: name for tag, (name, _) in _UNSUPPORTED.items()},
}


def name_of(tag: int) -> str:
    """The standard's name of an APDU tag, also of those that `decode` refuses; else "unknown APDU 0x.."."""
    return _NAMES.get(tag) or f"unknown APDU 0x{tag:02x}"


def decode(data: bytes) -> Apdu:
    """Decode one APDU by its tag.

    Raises RemoteProtocolError, with the offset and the APDU's name, when the bytes are cut short, break the
    standard, go on behind the APDU, or are of a service that is not supported. A value that ends the APDU is
    not looked into.
    """
    if not data:
        raise RemoteProtocolError("empty APDU", offset=0)
    tag = data[0]
    decoder = _DECODERS.get(tag)
    if decoder is not None:
        return decoder(data)
    if tag in _UNSUPPORTED:
        name, reason = _UNSUPPORTED[tag]
        raise RemoteProtocolError(f"{name}: {reason}", offset=0)
    raise RemoteProtocolError(f"{name_of(tag)}: the standard has no such tag", offset=0)


def decode_strict(data: bytes) -> Apdu:
    """`decode`, and the value that ends the APDU must be exactly one well-formed A-XDR value."""
    apdu = decode(data)
    tail = tail_of(apdu)
    if tail is not None:
        try:
            check_raw(tail, base=len(data) - len(tail))
        except RemoteProtocolError as exc:
            raise RemoteProtocolError(f"{name_of(data[0])}: {exc.reason}", offset=exc.offset) from exc
    return apdu


def tail_of(apdu: Apdu) -> Raw | None:
    """The value that ends the APDU and that `decode` took as it came; None where there is none."""
    match apdu:
        case (
            GetResponseNormal(result=Raw() as raw)
            | SetRequestNormal(value=raw)
            | ActionRequestNormal(parameters=Raw() as raw)
            | ActionResponseNormal(return_parameters=Raw() as raw)
            | DataNotification(body=raw)
            | EventNotificationRequest(value=raw)
        ):
            return raw
        case _:
            return None


def encode(apdu: Apdu) -> bytes:
    """The APDU's bytes. Raises LocalProtocolError when a field does not fit its place in the standard."""
    return apdu.to_bytes()
