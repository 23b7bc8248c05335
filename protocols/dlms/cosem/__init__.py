"""COSEM interface classes as far as reading needs them: attributes of the Blue Book's objects, by name.

Decoders take the `Data` of one attribute and raise `RemoteProtocolError` where it has not the form of its
class.
"""

from protocols.dlms.cosem.association import (
    AttributeAccess,
    LogicalDevice,
    MethodAccess,
    ObjectEntry,
    object_list,
    sap_assignment_list,
)
from protocols.dlms.cosem.clock import clock_time, minutes
from protocols.dlms.cosem.forms import date_time, text
from protocols.dlms.cosem.objects import (
    CLOCK_TIME,
    CURRENT_ASSOCIATION,
    LOGICAL_DEVICE_NAME,
    REPLY_TO_HLS,
    SAP_ASSIGNMENT_LIST,
    Attribute,
    ClassId,
    Method,
)
from protocols.dlms.cosem.profile_generic import (
    PROFILE_BUFFER,
    PROFILE_CAPTURE_OBJECTS,
    PROFILE_CAPTURE_PERIOD,
    PROFILE_ENTRIES,
    PROFILE_ENTRIES_IN_USE,
    PROFILE_SORT_METHOD,
    PROFILE_SORT_OBJECT,
    CaptureObject,
    SortMethod,
    capture_objects,
    entries,
    seconds,
    sort_method,
)
from protocols.dlms.cosem.registers import (
    REGISTER_ATTRIBUTES,
    Register,
    RegisterAttributes,
    ScalerUnit,
    exact,
)
from protocols.dlms.cosem.security_setup import (
    KEY_TRANSFER,
    KeyId,
    SecurityPolicy,
    TransferredKey,
    key_transfer,
    security_policy,
    security_suite,
    system_title,
    transferred_keys,
)
from protocols.dlms.cosem.selectors import BY_ENTRY, BY_RANGE, EntryDescriptor, RangeDescriptor

__all__ = [
    "BY_ENTRY",
    "BY_RANGE",
    "CLOCK_TIME",
    "CURRENT_ASSOCIATION",
    "KEY_TRANSFER",
    "LOGICAL_DEVICE_NAME",
    "PROFILE_BUFFER",
    "PROFILE_CAPTURE_OBJECTS",
    "PROFILE_CAPTURE_PERIOD",
    "PROFILE_ENTRIES",
    "PROFILE_ENTRIES_IN_USE",
    "PROFILE_SORT_METHOD",
    "PROFILE_SORT_OBJECT",
    "REGISTER_ATTRIBUTES",
    "REPLY_TO_HLS",
    "SAP_ASSIGNMENT_LIST",
    "Attribute",
    "AttributeAccess",
    "CaptureObject",
    "ClassId",
    "EntryDescriptor",
    "KeyId",
    "LogicalDevice",
    "Method",
    "MethodAccess",
    "ObjectEntry",
    "RangeDescriptor",
    "Register",
    "RegisterAttributes",
    "ScalerUnit",
    "SecurityPolicy",
    "SortMethod",
    "TransferredKey",
    "capture_objects",
    "clock_time",
    "date_time",
    "entries",
    "exact",
    "key_transfer",
    "minutes",
    "object_list",
    "sap_assignment_list",
    "seconds",
    "security_policy",
    "security_suite",
    "sort_method",
    "system_title",
    "text",
    "transferred_keys",
]
