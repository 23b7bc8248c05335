"""A meter behind a concentrator: the link that is opened for it, and the gateway prefix on any framing."""

from collections.abc import Coroutine
from functools import lru_cache
from typing import Any

from headend.session.channel import ApduChannel
from protocols.dlms import gateway
from protocols.dlms.gateway import Header
from protocols.errors import GatewayRefused
from schemas.address import AddressError, GatewayAddress, LinkAddress, Scheme
from schemas.network import Place


def link_to(address: str, place: Place) -> LinkAddress:
    """The link to open for a meter of this address: for ``via:`` that of the concentrator it hangs on.

    Raises AddressError, also where the network does not know the concentrator or its address.
    """
    found = LinkAddress.parse(address)
    if found.scheme is not Scheme.VIA:
        return found
    if place.station is None:
        raise AddressError(f"{address}: the network does not tell the concentrator that the meter hangs on")
    if place.station_address is None:
        raise AddressError(f"{address}: concentrator {place.station} has no address in the network")
    return found.through(_station(place.station_address))


_station = lru_cache(maxsize=4096)(LinkAddress.parse)  # one for all meters that are behind it


class GatewayChannel:
    """The DLMS gateway protocol over ``framing``, to the meter at ``address``.

    What is prefixed for another meter or another network, or goes the wrong way, is dropped and counted: it
    is never taken for our meter's answer. So is what has no prefix, but for the concentrator's own refusal.
    """

    __slots__ = ("_address", "_answer", "_framing", "_request", "_strangers")

    def __init__(self, framing: ApduChannel, address: GatewayAddress) -> None:
        self._framing = framing
        self._address = address
        self._request = gateway.prefix(Header.REQUEST, address)
        self._answer = gateway.prefix(Header.ANSWER, address)
        self._strangers = 0

    @property
    def peer(self) -> str:
        """The concentrator, and the meter's address behind it."""
        return f"{self._framing.peer} gateway {self._address}"

    @property
    def is_clean(self) -> bool:
        """Whether all that came was our meter's, and is taken."""
        return not self._strangers and self._framing.is_clean

    @property
    def outlasts_silence(self) -> bool:
        """As the framing's."""
        return self._framing.outlasts_silence

    @property
    def ignored(self) -> int:
        """What the framing dropped, and what came from others than our meter."""
        return self._framing.ignored + self._strangers

    async def open(self, deadline: float) -> None:
        """Open the framing's link to the concentrator. Raises as that does."""
        await self._framing.open(deadline)

    def send(self, apdu: bytes, deadline: float) -> Coroutine[Any, Any, None]:
        """Send one APDU to the meter. Raises as the framing does."""
        return self._framing.send(self._request + apdu, deadline)

    async def receive(self, deadline: float) -> bytes:
        """The next APDU of the meter.

        Raises GatewayRefused where the concentrator says that it does not reach the meter,
        RemoteProtocolError for a prefix that is cut short, and as the framing does.
        """
        while True:
            data = await self._framing.receive(deadline)
            if data.startswith(self._answer) and len(data) > len(self._answer):
                return data[len(self._answer) :]
            if gateway.is_prefixed(data):
                gateway.decode(data)  # another meter's, or no whole prefix
            elif (refusal := gateway.refusal(data)) is not None:
                raise GatewayRefused(f"{self.peer}: the concentrator does not reach the meter ({refusal})")
            self._strangers += 1

    async def close(self, deadline: float) -> None:
        """Close the framing's link. Raises as that does."""
        await self._framing.close(deadline)
