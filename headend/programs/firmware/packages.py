"""Packages at hand: opened, and so checked, before they are used; kept for the meters that follow."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from headend.firmware.package import Package
from headend.firmware.upload import package_of
from headend.session.access import Connect

#: Packages that are kept, each with its image.
_KEPT: Final = 4


class Packages:
    """Opens packages. ``trusted``: public keys that may sign them."""

    def __init__(self, connect: Connect, trusted: Sequence[str]) -> None:
        self._connect = connect
        self._trusted = tuple(trusted)
        self._open: OrderedDict[str, Package] = OrderedDict()
        self._opening = asyncio.Lock()

    async def get(self, digest: str) -> Package:
        """The package of this digest (hexadecimal). Raises PackageError where it is not to be used,
        UnknownError where there is none."""
        async with self._opening:
            found = self._open.get(digest)
            if found is None:
                async with self._connect() as connection:
                    found = self._open[digest] = await package_of(connection, digest, self._trusted)
                while len(self._open) > _KEPT:
                    self._open.popitem(last=False)
            return found
