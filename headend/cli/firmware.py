"""headend firmware: signed packages, made, checked and uploaded; brought to meters by a campaign."""

import os
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import ValidationError
from rich.table import Table

from headend.cli.acting import acting
from headend.cli.campaign_options import Course, Follow
from headend.cli.campaign_submit import submit_in
from headend.cli.documents import mistakes
from headend.cli.meter_options import Which
from headend.cli.option_sets import expanded
from headend.cli.shell import base, reported
from headend.cli.terminal import CommandError, err, moment, out, print_json
from headend.firmware.package import Manifest, Package, PackageError, key_id, pack, unpack
from headend.firmware.upload import upload
from headend.store import firmware
from headend.store.sql import Connection
from schemas.config import load_settings
from schemas.people import Permission
from schemas.programs.firmware import FirmwareProgram, Through

app = typer.Typer(
    help="Firmware: signed packages, and bringing them to meters.", no_args_is_help=True, add_completion=False
)

AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]
File = Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)]


@app.command("keygen")
@reported
async def keygen(
    file: Annotated[Path, typer.Argument(help="Where the private key goes, readable by its owner alone.")],
) -> None:
    """Make a pair of keys (Ed25519) to sign firmware with. The public one is told: it goes into
    HEADEND_FIRMWARE_KEYS. Keep the private one off this host."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise CommandError(f"{file} is there already, and a key is never written over") from error
    with os.fdopen(handle, "wb") as opened:
        opened.write(pem)
    err.print(f"key {key_id(key.public_key()).hex()} is in {file}; its public key:")
    out.print(key.public_key().public_bytes_raw().hex(), soft_wrap=True)


@app.command("pack")
@reported
async def pack_command(
    image: File,
    key: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Private key of `keygen`, PEM.")],
    identifier: Annotated[str, typer.Option(help="What meters are told: text, or 0x and hexadecimal.")],
    version: Annotated[str, typer.Option(help="What the meter shows when it runs.")],
    model: Annotated[list[str], typer.Option(help="For meters of this model; more than once for several.")],
    output: Annotated[Path, typer.Option("--out", help="The package.")],
    hardware: Annotated[
        list[str] | None, typer.Option(help="Only for this hardware; * and ? stand for any.")
    ] = None,
    version_from: Annotated[
        list[str] | None, typer.Option("--from", help="Only for meters with this version; * and ? as well.")
    ] = None,
    signature: Annotated[
        str | None,
        typer.Option(
            help="What meters tell as the signature of the image that they hold (image_to_activate_info), "
            "hexadecimal: one that tells another does not run it. Without: not compared."
        ),
    ] = None,
    notes: Annotated[str, typer.Option(help="What it mends.")] = "",
) -> None:
    """Make a signed package of an image."""
    data = image.read_bytes()
    try:
        manifest = Manifest(
            identifier=_identifier(identifier),
            models=tuple(model),
            hardware=tuple(hardware or ()),
            versions_from=tuple(version_from or ()),
            version_to=version,
            image_sha256=sha256(data).hexdigest(),
            image_size=len(data),
            signature=None if signature is None else signature.removeprefix("0x").lower(),
            notes=notes,
            created_at=datetime.now(UTC).replace(microsecond=0),
        )
        made = pack(manifest, data, _private(key))
    except ValidationError as error:
        raise CommandError("; ".join(mistakes(error))) from error
    except PackageError as error:
        raise CommandError(str(error)) from error
    output.write_bytes(made)
    out.print(f"{output}: {len(made)} bytes, package {sha256(made).hexdigest()}", soft_wrap=True)


@app.command("verify")
@reported
async def verify(
    file: File,
    key: Annotated[
        list[str] | None,
        typer.Option(help="A public key to trust, not those of HEADEND_FIRMWARE_KEYS."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a package, and tell what it is."""
    try:
        package = unpack(file.read_bytes(), key or load_settings().firmware_keys)
    except PackageError as error:
        raise CommandError(f"{file}: {error}") from error
    _tell(package, as_json=as_json)


@app.command("upload")
@reported
async def upload_command(file: File, as_json: AsJson = False) -> None:
    """Check a package and store it, so that programs can name it."""
    data = file.read_bytes()
    refusal = None
    async with base() as opened, opened.pool.connection() as connection:
        who = await acting(
            connection, opened, "firmware.uploaded", f"file:{file.name}", needs=Permission.FIRMWARE
        )
        try:
            package = await upload(connection, data, opened.settings.firmware_keys, actor=who.actor)
        except PackageError as error:
            refusal = error  # its entry in the audit trail is committed all the same
    if refusal is not None:
        raise CommandError(f"{file}: {refusal}")
    _tell(package, as_json=as_json)


@app.command("list")
@reported
async def list_command(as_json: AsJson = False) -> None:
    """Show uploaded packages, newest first, and how many meters show which version."""
    async with base() as opened, opened.pool.connection() as connection:
        packages, shares = await firmware.list_all(connection), await firmware.fleet(connection)
    if as_json:
        print_json(
            {
                "packages": [
                    {"package": one.digest, "key_id": one.key_id, "size": one.size} | dict(one.manifest)
                    for one in packages
                ],
                "versions": [one._asdict() for one in shares],
            }
        )
        return
    table = Table("package", "version", "models", "from", "bytes", "signed by", "uploaded")
    for one in packages:
        told = one.manifest
        table.add_row(
            one.digest[:16], told["version_to"], ", ".join(told["models"]),
            ", ".join(told["versions_from"]) or "any", str(told["image_size"]), one.key_id,
            f"{one.created_at:%F %R}Z",
        )  # fmt: skip
    out.print(table)
    if shares:
        seen = Table("model", "version", "meters")
        for share in shares:
            seen.add_row(share.model, share.version, str(share.meters))
        out.print(seen)


@app.command("show")
@reported
async def show(
    package: Annotated[str, typer.Argument(help="Its digest, or the beginning of it.")],
    as_json: AsJson = False,
) -> None:
    """Show one uploaded package, checked again."""
    async with base() as opened, opened.pool.connection() as connection:
        data = await firmware.data(connection, await _digest(connection, package))
    try:
        found = unpack(data, opened.settings.firmware_keys)
    except PackageError as error:
        raise CommandError(str(error)) from error
    _tell(found, as_json=as_json)


@app.command("apply")
@reported
@expanded
async def apply(
    package: Annotated[str, typer.Argument(help="Its digest, or the beginning of it.")],
    at: Annotated[
        str | None,
        typer.Option(
            help="When meters change over (RFC 3339 with an offset); without: once they have verified it."
        ),
    ] = None,
    through: Annotated[
        Through,
        typer.Option(
            help="Who brings the image to meters behind a concentrator: the concentrator, handed it once, "
            "where it can distribute; or the head-end, to each of the meters."
        ),
    ] = Through.CONCENTRATORS,
    *,
    which: Which,
    course: Course,
    follow: Follow = True,
    as_json: AsJson = False,
) -> int:
    """Bring an uploaded package to meters: a campaign.

    Exit status 3 where a second person has to approve first, 1 where a meter has it not.
    """
    plan = course.plan(which)
    activate_at = None if at is None else moment(at, option="--at")
    async with base() as opened:
        async with opened.pool.connection() as connection:
            digest = await _digest(connection, package)
            version = (await firmware.find(connection, digest)).manifest["version_to"]
        program = FirmwareProgram(package=digest, activate_at=activate_at, through=through)
        return await submit_in(
            opened, program, plan, title=f"firmware {version}", follow=follow, as_json=as_json
        )


async def _digest(connection: Connection, told: str) -> str:
    found = [one.digest for one in await firmware.list_all(connection) if one.digest.startswith(told.lower())]
    if len(found) != 1:
        raise CommandError(f"{len(found)} packages begin with {told!r}: `headend firmware list` shows them")
    return found[0]


def _private(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise CommandError(f"{path} holds no private key as `headend firmware keygen` makes it") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise CommandError(f"{path} is no Ed25519 key: `headend firmware keygen` makes one")
    return key


def _identifier(told: str) -> str:
    if not told.startswith("0x"):
        return told.encode().hex()
    try:
        return bytes.fromhex(told[2:]).hex()
    except ValueError as error:
        raise CommandError("--identifier: what follows 0x is not hexadecimal") from error


def _tell(package: Package, *, as_json: bool) -> None:
    manifest = package.manifest
    if as_json:
        print_json({"package": package.digest, "key_id": package.key_id} | manifest.model_dump(mode="json"))
        return
    table = Table(show_header=False)
    for name, value in (
        ("package", package.digest),
        ("signed by", package.key_id),
        ("identifier", f"0x{manifest.identifier}"),
        ("models", ", ".join(manifest.models)),
        ("hardware", ", ".join(manifest.hardware) or "any"),
        ("versions", f"{', '.join(manifest.versions_from) or 'any'} -> {manifest.version_to}"),
        ("image", f"{manifest.image_size:,} bytes, SHA-256 {manifest.image_sha256}"),
        ("signature", manifest.signature or "not compared"),
        ("made", f"{manifest.created_at:%F %R}Z"),
        ("notes", manifest.notes),
    ):
        table.add_row(name, value)
    out.print(table)
