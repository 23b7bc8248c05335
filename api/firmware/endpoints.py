"""Firmware packages: signed, checked when they come, and found by their digest. A campaign of a program
``{"kind": "firmware", "package": DIGEST}`` brings one to meters."""

from typing import Annotated, Any, Final, Self

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.auth import Reader, allowed
from api.errors import BadValue, NotFound, responses
from api.services import Services, services
from api.strict_json import StrictRoute
from api.times import rfc3339
from headend.firmware.package import PackageError
from headend.firmware.upload import upload
from headend.store import firmware
from headend.store.errors import UnknownError
from headend.store.firmware import StoredPackage
from schemas.people import Permission, Principal

router = APIRouter(tags=["firmware"], route_class=StrictRoute)

_EXAMPLE: Final[dict[str, Any]] = {
    "package": "6f" * 32,
    "identifier": "464f4f31",
    "models": ["headend-sim-hls5"],
    "hardware": ["B*"],
    "versions_from": ["1.0.*"],
    "version_to": "1.1.0",
    "image_size": 262144,
    "notes": "Mends the clock of revision B.",
    "key_id": "0011223344556677",
    "size": 262600,
    "actor": "token:3 desk",
    "created_at": "2026-03-01T08:00:00Z",
}
_FILE: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {
                "schema": {"type": "string", "format": "binary"},
                "example": "HEADENDFW1...",
            }
        },
    }
}
Digest = Annotated[
    str, Path(description="SHA-256 of the package's file", pattern="^[0-9a-f]{64}$", examples=["6f" * 32])
]


class PackageModel(BaseModel):
    """A package, without its image."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    package: str = Field(description="SHA-256 of its file: how programs name it")
    identifier: str = Field(description="what meters are told, in hexadecimal")
    models: list[str]
    hardware: list[str] = Field(description="patterns; none: any")
    versions_from: list[str] = Field(description="patterns; none: any")
    version_to: str
    image_size: int
    notes: str
    key_id: str = Field(description="who signed it")
    size: int
    actor: str
    created_at: str

    @classmethod
    def of(cls, stored: StoredPackage) -> Self:
        """As it is stored."""
        told = stored.manifest
        return cls(
            package=stored.digest,
            identifier=told["identifier"],
            models=list(told["models"]),
            hardware=list(told["hardware"]),
            versions_from=list(told["versions_from"]),
            version_to=told["version_to"],
            image_size=told["image_size"],
            notes=told["notes"],
            key_id=stored.key_id,
            size=stored.size,
            actor=stored.actor,
            created_at=rfc3339(stored.created_at),
        )


class PackageList(BaseModel):
    """All packages, newest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"packages": [_EXAMPLE]}]})

    packages: list[PackageModel]


@router.post(
    "/firmware",
    summary="Upload a signed firmware package",
    status_code=201,
    responses=responses(400, 401, 403, 413, 422, 503),
    openapi_extra=_FILE,
)
async def upload_firmware(
    principal: Annotated[Principal, Depends(allowed(Permission.FIRMWARE))],
    house: Annotated[Services, Depends(services)],
    request: Request,
    response: Response,
) -> PackageModel:
    """The file of `headend firmware pack`, as it is. Its signature is checked against the keys of the
    settings, and each refusal is audited. The same package again is no error."""
    data = await request.body()
    refusal = None
    async with house.pool.connection() as connection:
        try:
            package = await upload(connection, data, house.firmware_keys, actor=principal.actor)
        except PackageError as error:
            refusal = error
        else:
            stored = await firmware.find(connection, package.digest)
    if refusal is not None:
        raise BadValue(str(refusal))
    response.headers["Location"] = f"/api/v1/firmware/{stored.digest}"
    return PackageModel.of(stored)


@router.get("/firmware", summary="Firmware packages", responses=responses(400, 401, 403, 503))
async def list_firmware(_reader: Reader, house: Annotated[Services, Depends(services)]) -> PackageList:
    """Newest first, without their images."""
    async with house.pool.connection() as connection:
        found = await firmware.list_all(connection)
    return PackageList(packages=[PackageModel.of(one) for one in found])


@router.get(
    "/firmware/{package}",
    summary="One firmware package",
    responses=responses(400, 401, 403, 404, 422, 503),
)
async def get_firmware(
    _reader: Reader, house: Annotated[Services, Depends(services)], package: Digest
) -> PackageModel:
    """Without its image."""
    async with house.pool.connection() as connection:
        try:
            return PackageModel.of(await firmware.find(connection, package))
        except UnknownError as error:
            raise NotFound(f"{error}; GET /api/v1/firmware lists them") from error
