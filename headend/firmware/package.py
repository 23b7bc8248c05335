"""A firmware package: an image, what it is for, and a signature over all of it.

::

    HEADENDFW1\\n              11 bytes
    length of the manifest     4 bytes, most significant first
    manifest                   JSON in its canonical form: sorted keys, no blanks, UTF-8
    image                      as many bytes as the manifest says
    key id                     8 bytes: the first of the SHA-256 of the public key
    signature                  64 bytes: Ed25519 (RFC 8032) over everything before it

The format is this project's own; what of it a meter is given is the image alone. A package is checked when
it is uploaded, and again each time before it is used.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Annotated, Final, Literal, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from schemas.program import canonical
from schemas.text import Name

MAGIC: Final = b"HEADENDFW1\n"
_LENGTH: Final = 4
_KEY_ID: Final = 8
_SIGNATURE: Final = 64
_LONGEST_MANIFEST: Final = 1 << 20


class PackageError(ValueError):
    """A package that is not taken; the message says why, and what to do."""


class Manifest(BaseModel):
    """What an image is, and for whom.

    ``identifier`` is what the meter is told when the transfer is initiated (image_identifier of class 18), in
    hexadecimal. ``hardware`` and ``versions_from`` are patterns with ``*`` and ``?``; none: any.
    ``version_to`` is what the meter shows when it runs. ``signature`` is what the meter tells of the image
    when it holds it verified (image_to_activate_info of class 18), in hexadecimal: one that tells another is
    not told to activate it. None: nobody knows it, and nothing is compared.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    identifier: Annotated[str, Field(pattern=r"^([0-9a-f]{2}){1,64}$")]
    models: Annotated[tuple[Name, ...], Field(min_length=1, max_length=100)]
    hardware: Annotated[tuple[Name, ...], Field(max_length=100)] = ()
    versions_from: Annotated[tuple[Name, ...], Field(max_length=100)] = ()
    version_to: Name
    image_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    image_size: Annotated[int, Field(gt=0, lt=1 << 32)]
    signature: Annotated[str, Field(pattern=r"^([0-9a-f]{2}){1,1024}$")] | None = None
    notes: Annotated[str, Field(max_length=10_000)] = ""
    created_at: AwareDatetime

    @model_validator(mode="after")
    def _goes_somewhere(self) -> Self:
        if self.versions_from == (self.version_to,):
            raise ValueError("versions_from is version_to alone: there is nothing to change")
        return self

    @property
    def identification(self) -> bytes:
        """``identifier`` as bytes."""
        return bytes.fromhex(self.identifier)

    def unfit_model(self, model: str) -> str | None:
        """Why meters of this model cannot have it; None where they can."""
        if model in self.models:
            return None
        return f"the package is for {', '.join(self.models)}, not for {model}"

    def unfit(self, version: str, hardware: str | None) -> str | None:
        """Why a meter that shows this version and hardware cannot have it; None where it can. ``hardware``
        None: it shows none, which only a package for any hardware takes."""
        if self.hardware and (hardware is None or not _fits(hardware, self.hardware)):
            shown = "the meter shows no hardware" if hardware is None else f"hardware {hardware}"
            return f"the package is for hardware {', '.join(self.hardware)}: {shown}"
        if self.versions_from and not _fits(version, self.versions_from):
            return f"the package is for versions {', '.join(self.versions_from)}, the meter has {version}"
        return None


@dataclass(frozen=True, slots=True)
class Package:
    """A package whose signature and digests hold. ``digest`` is the SHA-256 of its file."""

    manifest: Manifest
    image: bytes = field(repr=False)
    key_id: str
    digest: str


def public_key(text: str) -> Ed25519PublicKey:
    """From 64 hexadecimal digits. Raises PackageError."""
    try:
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
    except ValueError:
        raise PackageError(
            "a public key has 64 hexadecimal digits: `headend firmware keygen` tells one"
        ) from None


def key_id(public: Ed25519PublicKey) -> bytes:
    """Which key signed: 8 bytes."""
    return hashlib.sha256(public.public_bytes_raw()).digest()[:_KEY_ID]


def pack(manifest: Manifest, image: bytes, key: Ed25519PrivateKey) -> bytes:
    """The package's file. Raises PackageError where the manifest is of another image."""
    _check_image(manifest, image)
    told = canonical(manifest.model_dump(mode="json"))
    body = MAGIC + len(told).to_bytes(_LENGTH, "big") + told + image + key_id(key.public_key())
    return body + key.sign(body)


def unpack(data: bytes, trusted: Sequence[str]) -> Package:
    """Check a package against the public keys that are trusted, 64 hexadecimal digits each.

    Nothing of it is looked at, beyond who signed it, until its signature holds. Raises PackageError.
    """
    if not trusted:
        raise PackageError(
            "no key is trusted to sign firmware: name its public key in HEADEND_FIRMWARE_KEYS "
            "(`headend firmware keygen` makes a pair)"
        )
    if not data.startswith(MAGIC) or len(data) < len(MAGIC) + _LENGTH + _KEY_ID + _SIGNATURE:
        raise PackageError("this is no firmware package, or not all of it: `headend firmware pack` makes one")
    body, signature = data[:-_SIGNATURE], data[-_SIGNATURE:]
    signer = body[-_KEY_ID:]
    keys = {key_id(one): one for one in map(public_key, trusted)}
    key = keys.get(signer)
    if key is None:
        known = ", ".join(sorted(one.hex() for one in keys))
        raise PackageError(
            f"it was signed by key {signer.hex()}, which is not trusted; trusted are {known}: have it "
            "signed by one of these, or add its public key to HEADEND_FIRMWARE_KEYS"
        )
    try:
        key.verify(signature, body)
    except InvalidSignature:
        raise PackageError(
            "its signature does not hold: it was changed on its way, or is not whole; fetch it again"
        ) from None
    begin = len(MAGIC) + _LENGTH
    length = int.from_bytes(data[len(MAGIC) : begin], "big")
    if length > min(_LONGEST_MANIFEST, len(body) - begin - _KEY_ID):
        raise PackageError("its manifest is longer than the package: it was made wrongly")
    try:
        manifest = Manifest.model_validate_json(data[begin : begin + length])
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise PackageError(f"its manifest cannot be used: {told}") from None
    image = body[begin + length : -_KEY_ID]
    _check_image(manifest, image)
    return Package(manifest, image, signer.hex(), hashlib.sha256(data).hexdigest())


def _check_image(manifest: Manifest, image: bytes) -> None:
    if len(image) != manifest.image_size:
        raise PackageError(f"the image has {len(image)} bytes, its manifest says {manifest.image_size}")
    if not hmac.compare_digest(hashlib.sha256(image).hexdigest(), manifest.image_sha256):
        raise PackageError("the image is not the one of its manifest: their digests differ")


def _fits(text: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(text, one) for one in patterns)
