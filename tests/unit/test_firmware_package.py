"""Firmware packages: what was packed comes out, and nothing that was changed by a bit does."""

import hashlib
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from headend.firmware.package import Manifest, PackageError, key_id, pack, unpack

KEY = Ed25519PrivateKey.from_private_bytes(b"7" * 32)
TRUSTED = (KEY.public_key().public_bytes_raw().hex(),)
IMAGE = bytes(range(256)) * 4


def manifest(image: bytes = IMAGE, **given: object) -> Manifest:
    return Manifest.model_validate(
        {
            "identifier": "464f4f",
            "models": ["headend-sim"],
            "version_to": "1.1.0",
            "image_sha256": hashlib.sha256(image).hexdigest(),
            "image_size": len(image),
            "created_at": datetime(2026, 1, 2, tzinfo=UTC),
            **given,
        }
    )


PACKED = pack(manifest(), IMAGE, KEY)


@given(st.binary(min_size=1, max_size=500), st.text(max_size=50))
def test_what_was_packed_comes_out(image: bytes, notes: str) -> None:
    try:
        told = manifest(image, notes=notes)
    except ValidationError:
        return
    package = unpack(pack(told, image, KEY), TRUSTED)
    assert (package.manifest, package.image) == (told, image)
    assert package.key_id == key_id(KEY.public_key()).hex()


def test_one_flipped_bit_anywhere_is_refused() -> None:
    for bit in range(8 * len(PACKED)):
        wrong = bytearray(PACKED)
        wrong[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PackageError):
            unpack(bytes(wrong), TRUSTED)


@pytest.mark.parametrize("end", [0, 1, 11, 15, 90, len(PACKED) // 2, len(PACKED) - 1])
def test_what_is_not_whole_is_refused(end: int) -> None:
    with pytest.raises(PackageError, match=r"not all of it|not whole|not trusted"):
        unpack(PACKED[:end], TRUSTED)


def test_no_key_is_trusted_by_itself() -> None:
    with pytest.raises(PackageError, match="HEADEND_FIRMWARE_KEYS"):
        unpack(PACKED, ())


def test_a_key_that_is_not_trusted_signs_nothing() -> None:
    stranger = Ed25519PrivateKey.from_private_bytes(b"8" * 32)
    with pytest.raises(PackageError, match="not trusted"):
        unpack(pack(manifest(), IMAGE, stranger), TRUSTED)


def test_a_signed_package_of_another_image_is_refused() -> None:
    with pytest.raises(PackageError, match="digests differ"):
        pack(manifest(b"x" * len(IMAGE)), IMAGE, KEY)
    with pytest.raises(PackageError, match="1024 bytes, its manifest says 3"):
        pack(manifest(b"abc"), IMAGE, KEY)


def test_an_image_shows_in_no_repr() -> None:
    assert "image=" not in repr(unpack(PACKED, TRUSTED))


def test_whom_it_fits() -> None:
    told = manifest(hardware=["B*"], versions_from=["1.0.?", "0.*"])
    assert told.unfit_model("headend-sim") is None
    assert "not for headend-sim-lls" in str(told.unfit_model("headend-sim-lls"))
    assert told.unfit("1.0.9", "B2") is None
    assert "the meter has 1.1.0" in str(told.unfit("1.1.0", "B2"))
    assert "hardware A1" in str(told.unfit("1.0.9", "A1"))
    assert "shows no hardware" in str(told.unfit("1.0.9", None))
    with pytest.raises(ValidationError, match="nothing to change"):
        manifest(versions_from=["1.1.0"])
