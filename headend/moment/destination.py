"""Where webhooks may go. Whoever may ask for a read must not reach, through us, what only we can reach.

Without a word from the operator that is https to hosts on the public network. ``webhook_hosts`` of the
settings names others (``receiver.lan``, or ``127.0.0.1:9000`` for one port only): these may be anywhere, and
be spoken to over http. What a name resolves to is checked when it is called, and that very address is called:
a name that resolves otherwise a moment later leads nowhere else. Redirects are not followed.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Collection
from typing import Final
from urllib.parse import SplitResult, urlsplit

_PORTS: Final = {"https": 443, "http": 80}
LONGEST_URL: Final = 2048


class BadDestination(ValueError):
    """A webhook must not go there; the message says why and never holds the URL."""


def check(url: str, hosts: Collection[str]) -> SplitResult:
    """The URL in parts. Raises BadDestination for what can be told without resolving a name."""
    if len(url) > LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise BadDestination(f"must be a URL of at most {LONGEST_URL} visible ASCII characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise BadDestination("is no URL") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise BadDestination("must be https://host/path")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise BadDestination("must have neither user, password nor fragment")
    if port == 0:
        raise BadDestination("has a port that is none")
    if _is_named(parts, hosts):
        return parts
    if parts.scheme != "https":
        raise BadDestination("must be https; webhook_hosts of the settings names hosts that may have http")
    _check_public(parts.hostname)
    return parts


async def resolve(url: str, hosts: Collection[str]) -> str:
    """The address to call. Raises BadDestination, and OSError where the name does not resolve."""
    parts = check(url, hosts)
    host, port = parts.hostname or "", port_of(parts)
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(where[0]) for _, _, _, _, where in found]
    if not _is_named(parts, hosts):
        for address in addresses:
            _check_public(address)
    return addresses[0]


def port_of(parts: SplitResult) -> int:
    """The port that is called."""
    return parts.port or _PORTS[parts.scheme]


def shown(url: str) -> str:
    """The URL without its query, which may hold what nobody else shall know."""
    return urlsplit(url)._replace(query="", fragment="").geturl()


def _is_named(parts: SplitResult, hosts: Collection[str]) -> bool:
    host = parts.hostname or ""
    return host in hosts or f"{host}:{port_of(parts)}" in hosts


def _check_public(host: str) -> None:
    """Names pass: they are checked as what they resolve to."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return
    mapped = getattr(address, "ipv4_mapped", None) or address
    if not mapped.is_global or mapped.is_multicast:
        raise BadDestination(
            "is not on the public network; webhook_hosts of the settings names hosts that may be"
        )
