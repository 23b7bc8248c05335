"""From an address to an open stream, and from a stream to its framing."""

from headend.session.channel import ApduChannel, UdpWrapperChannel, WrapperChannel
from headend.session.deadlines import Deadlines
from headend.session.gateway import GatewayChannel
from headend.session.hdlc import HdlcChannel
from headend.session.opening import open_hdlc
from headend.session.plan import SessionPlan
from headend.transport.serial import open_serial
from headend.transport.stream import Stream
from headend.transport.tcp import dial_tcp
from headend.transport.udp import dial_udp
from protocols.errors import LocalProtocolError
from schemas.address import LinkAddress, Scheme

DEFAULT_BAUD = 9600


async def dial(address: LinkAddress, deadline: float) -> Stream:
    """Open the link that ``address`` names.

    Raises LinkTimeout, LinkError; LocalProtocolError for ``inbound:``, since such a meter calls us.
    """
    if address.scheme in (Scheme.IEC62056_SERIAL, Scheme.IEC62056_TCP):
        return await open_hdlc(address, deadline)
    if address.scheme is Scheme.HDLC_SERIAL and address.device is not None:
        return await open_serial(address.device, baud=address.baud or DEFAULT_BAUD)
    if address.host is None or address.port is None:
        raise LocalProtocolError(f"{address} cannot be dialled: the meter calls us")
    if address.scheme is Scheme.UDP:
        return await dial_udp(address.host, address.port, deadline)
    return await dial_tcp(address.host, address.port, deadline)


def channel_over(stream: Stream, plan: SessionPlan, deadlines: Deadlines) -> ApduChannel:
    """The framing that ``plan`` names, over ``stream``, with the gateway's prefix behind a concentrator."""
    framing = _framing(stream, plan, deadlines)
    gateway = plan.address.gateway
    return framing if gateway is None else GatewayChannel(framing, gateway)


def _framing(stream: Stream, plan: SessionPlan, deadlines: Deadlines) -> ApduChannel:
    client, server = plan.client_sap, plan.server_sap
    if plan.hdlc is not None:
        return HdlcChannel(stream, client=client, server=server, parameters=plan.hdlc, deadlines=deadlines)
    kind = UdpWrapperChannel if plan.address.scheme is Scheme.UDP else WrapperChannel
    return kind(stream, client=client, server=server, deadlines=deadlines)
