"""Who a push tells that it is from: by its system title, or by names under codes and in places of a list."""

from collections.abc import Iterable
from typing import Final

from headend.listen.contents import Push, values_of
from headend.listen.directory import Known
from protocols.dlms import push_values
from protocols.dlms.apdu import (
    Apdu,
    GeneralCiphering,
    GeneralDedCiphering,
    GeneralGloCiphering,
)
from protocols.dlms.axdr import Data, DataType
from schemas.model import MeterModel

_LONGEST_IDENTITY: Final = 64
_CONTAINERS: Final = frozenset({DataType.ARRAY, DataType.STRUCTURE, DataType.COMPACT_ARRAY})


def names_of(known: Known) -> set[str]:
    """The names that we know the meter by."""
    names = {known.meter.asset_id}
    if known.meter.logical_device_name is not None:
        names.add(known.meter.logical_device_name)
    return names


def identities(message: Push, data: Data, model: MeterModel | None) -> Iterable[str]:
    """The texts under the codes where a model (None: any) tells which meter it is."""
    codes = MeterModel.model_fields["identity"].default if model is None else model.identity
    for value in values_of(message, data, model)[0]:
        text = push_values.written(value.value)
        if str(value.obis) in codes and text and len(text) <= _LONGEST_IDENTITY and text.isprintable():
            yield text


def that_name_places(models: Iterable[MeterModel], data: Data) -> Iterable[MeterModel]:
    """The models with a push list that fits this body and names its places."""
    items = push_values.elements(data)
    if not items:
        return
    container = "structure" if data.type is DataType.STRUCTURE else "array"
    first = None if items[0].type in _CONTAINERS else push_values.plain(items[0])
    list_id = first if isinstance(first, str) else None
    for model in models:
        pushed = model.push_list(container, len(items), list_id)
        if pushed is not None and pushed.positions:
            yield model


def title_of(message: Apdu) -> bytes | None:
    match message:
        case GeneralGloCiphering(system_title=title) | GeneralDedCiphering(system_title=title):
            return title or None
        case GeneralCiphering(originator=title):
            return title or None
        case _:
            return None
