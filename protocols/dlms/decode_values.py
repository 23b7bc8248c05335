"""From the values inside an APDU to those of its `Message`: named, scaled, with the reason where they end."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from protocols.dlms import apdu as apdus
from protocols.dlms import push_values, tolerant
from protocols.dlms.apdu import Apdu, Raw
from protocols.dlms.axdr import Data, DataType
from protocols.dlms.cosem import Attribute
from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.decode_message import Builder
from protocols.errors import RemoteProtocolError

if TYPE_CHECKING:  # a model brings pydantic, and a frame is decoded without one
    from schemas.model import MeterModel


class ValueFinder:
    """Finds values with the help of a meter model, if there is one, and tells them to a `Builder`."""

    def __init__(self, model: "MeterModel | None") -> None:
        self._model = model

    def time(self, builder: Builder, stamp: bytes | None) -> None:
        """The notification's own time, from its twelve bytes."""
        if not stamp:
            return
        try:
            moment = CosemDateTime.from_bytes(stamp)
        except RemoteProtocolError as exc:
            builder.problem(RemoteProtocolError(f"date-time: {exc.reason}"))
            return
        builder.time = moment
        builder.time_utc = push_values.utc(moment, self._model)

    def body(self, builder: Builder, message: Apdu, body: Raw) -> None:
        """Values of pushed data: those that could be read, and the problem where it ends."""
        reading = tolerant.read(body.data)
        if reading.error is not None:
            self._bad(builder, message, body, reading.error)
        if reading.data is None:
            return
        if tolerant.has_descriptors(reading.data):
            builder.notes.append("attribute descriptors without A-XDR tags, as some makers write them")
        self.values(builder, reading.data)

    def answers(
        self, builder: Builder, message: Apdu, asked: tuple[Attribute, ...], results: Iterable[object]
    ) -> None:
        """Values of results, named by the attributes that were ``asked`` for where those are known."""
        results = tuple(results)
        for index, result in enumerate(results):
            if not isinstance(result, Raw):
                continue
            reading = tolerant.read(result.data)
            if reading.error is not None:
                self._bad(builder, message, result, reading.error)
            if reading.data is None:
                continue
            attribute = asked[index] if len(asked) == len(results) else None
            value = None
            if attribute is not None and attribute.index != 1:
                value = push_values.named(attribute.obis, reading.data, self._model)
            if value is not None:
                builder.values.append(value)
            elif reading.data.type in (DataType.ARRAY, DataType.STRUCTURE):
                builder.values += push_values.find(reading.data, self._model).values

    def tail(self, builder: Builder, message: Apdu) -> None:
        """Only look whether the value that ends the APDU is one."""
        tail = apdus.tail_of(message)
        error = None if tail is None else tolerant.read(tail.data).error
        if tail is not None and error is not None:
            self._bad(builder, message, tail, error)

    def _bad(self, builder: Builder, message: Apdu, value: Raw, error: RemoteProtocolError) -> None:
        reason = error.reason
        if builder.security is not None and not builder.security.verified and builder.security.encrypted:
            reason += "; nothing verifies the message: wrong key?"
        # The offset of a value that ends the APDU; where others follow it tells the value's own.
        behind = len(message.to_bytes()) - len(value)
        at = None if apdus.tail_of(message) is not value else behind + (error.offset or 0)
        builder.problem(RemoteProtocolError(reason, offset=at))

    def values(self, builder: Builder, data: Data) -> None:
        """All values in ``data``."""
        found = push_values.find(data, self._model)
        builder.values += found.values
        builder.unnamed += found.unnamed
        if found.push_list is not None:
            builder.notes.append(f"push list {found.push_list!r} of the profile")
        elif found.unnamed:
            builder.notes.append(f"{len(found.unnamed)} values without an OBIS code: a profile may name them")
