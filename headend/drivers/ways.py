"""What drivers whose meters need no keys have in common: settings that make a way, or say why they do not."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from headend.drivers.contract import Target, Way
from protocols.errors import LocalProtocolError
from schemas.address import AddressError, LinkAddress
from schemas.model import ModelError

ModelT = TypeVar("ModelT")


def settled(target: Target, load: Callable[[str], ModelT]) -> tuple[ModelT, LinkAddress]:
    """The model and the address of a meter. Raises LocalProtocolError, saying what is wrong with either."""
    meter = target.meter
    if not meter.address:
        raise LocalProtocolError(f"{meter.asset_id}: has no address")
    try:
        return load(meter.model), LinkAddress.parse(meter.address)
    except (ModelError, AddressError) as error:
        raise LocalProtocolError(f"{meter.asset_id}: {error}") from error


def to_each(targets: Sequence[Target], way: Callable[[Target], Way]) -> dict[int, Way | LocalProtocolError]:
    """The way to each, by its meter's number, or the error that ``way`` raised for it."""
    found: dict[int, Way | LocalProtocolError] = {}
    for target in targets:
        try:
            found[target.meter.meter_id] = way(target)
        except LocalProtocolError as error:
            found[target.meter.meter_id] = error
    return found
