"""What a store-and-forward concentrator pushes: a Data-Notification with rows of many meters.

Our own form, as the objects of `protocols.dlms.store_forward`. The name that stands first in the body says
that it is one. Rows are as the meters gave them, oldest first. A confirm lets the concentrator overwrite
them.
"""

from typing import Final, NamedTuple

from protocols.dlms import axdr
from protocols.dlms.axdr import Data, DataType
from protocols.dlms.cosem.forms import ascii_of, elements_of, fields_of, natural_of, natural_within
from protocols.dlms.obis import Obis
from protocols.dlms.store_forward import Layout, decode_layouts, encode_layouts

NAME: Final = Obis.parse("0-0:199.0.3*255")


class Rows(NamedTuple):
    """Rows of one meter's load profile in a push: its ``buffer`` as an A-XDR array."""

    identity: str
    profile: int
    layout: int
    period_s: int
    buffer: bytes


class Forwarded(NamedTuple):
    """The body of a push. ``identity`` is the concentrator's own name."""

    identity: str
    layouts: tuple[Layout, ...]
    rows: tuple[Rows, ...]


def encode_forwarded(push: Forwarded) -> bytes:
    """The body: structure { 0-0:199.0.3*255, name, layouts, array of rows }."""
    return axdr.encode(
        axdr.structure(
            axdr.octets(NAME.raw),
            axdr.octets(push.identity.encode("ascii")),
            axdr.decode_exact(encode_layouts(push.layouts)),
            axdr.array(
                axdr.structure(
                    axdr.octets(one.identity.encode("ascii")),
                    axdr.u8(one.profile),
                    axdr.u8(one.layout),
                    axdr.u32(one.period_s),
                    axdr.decode_exact(one.buffer),
                )
                for one in push.rows
            ),
        )
    )


def read_forwarded(body: Data) -> Forwarded | None:
    """The body of a push; None where it is of another kind. Raises RemoteProtocolError."""
    if body.type is not DataType.STRUCTURE or not body.value:
        return None
    if body.value[0] != axdr.octets(NAME.raw):
        return None
    _, identity, layouts, rows = fields_of(body, 4, "forwarded push")
    return Forwarded(
        ascii_of(identity, "identity"),
        decode_layouts(axdr.encode(layouts)),
        tuple(_read_rows(item) for item in elements_of(rows, "forwarded rows")),
    )


def _read_rows(data: Data) -> Rows:
    identity, profile, layout, period, buffer = fields_of(data, 5, "forwarded rows")
    elements_of(buffer, "buffer")
    return Rows(
        ascii_of(identity, "identity"),
        natural_within(profile, "profile", 1, 0xFF),
        natural_of(layout, "layout"),
        natural_of(period, "capture period"),
        axdr.encode(buffer),
    )
