"""A package is taken in: checked, stored once, audited; and so is its refusal."""

from collections.abc import Sequence

from headend.firmware.package import Package, PackageError, unpack
from headend.store import audit, firmware
from headend.store.sql import Connection


async def upload(connection: Connection, data: bytes, trusted: Sequence[str], *, actor: str) -> Package:
    """Check and store a package; the same one again changes nothing. In a transaction, which is to be
    committed also where this raises PackageError: the refusal is in the audit trail."""
    try:
        package = unpack(data, trusted)
    except PackageError as error:
        await audit.record(
            connection,
            actor=actor,
            action="firmware.refused",
            object_="firmware",
            detail={"bytes": len(data), "reason": str(error)},
        )
        raise
    manifest = package.manifest.model_dump(mode="json")
    added = await firmware.add(
        connection, data, digest=package.digest, manifest=manifest, key_id=package.key_id, actor=actor
    )
    if added:
        await audit.record(
            connection,
            actor=actor,
            action="firmware.upload",
            object_=f"firmware:{package.digest}",
            detail={"identifier": package.manifest.identifier, "version": package.manifest.version_to},
        )
    return package


async def package_of(connection: Connection, digest: str, trusted: Sequence[str]) -> Package:
    """A stored package, checked again. Raises UnknownError, and PackageError where it does not hold now: its
    key is trusted no more, or its bytes were changed in the database."""
    package = unpack(await firmware.data(connection, digest), trusted)
    if package.digest != digest:
        raise PackageError(f"what is stored as {digest} is another package")
    return package
