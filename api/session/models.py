"""Shapes of a person's own session."""

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from api.auth import Caller
from api.cookies import csrf_token
from api.times import rfc3339
from headend.store.sessions import SessionKind
from schemas.people import Permission

_WHO: Final[dict[str, Any]] = {
    "login": "alice",
    "account": 5,
    "actor": "account:5 alice",
    "roles": ["operator:north"],
    "permissions": ["emergency_stop", "operate", "read"],
    "areas": ["north"],
    "kind": "browser",
    "second_factor": True,
    "must_change_password": False,
    "expires_at": "2026-03-01T20:00:00Z",
    "csrf_token": "5a0c...",
}

Secret = Annotated[SecretStr, Field(min_length=1, max_length=256)]


class LogIn(BaseModel):
    """Who wants to come in. ``code`` is a one-time password, or a recovery code."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"login": "alice", "password": "correct horse battery staple", "code": "123456"},
            ]
        },
    )

    login: str = Field(min_length=1, max_length=64)
    password: Secret
    code: Annotated[SecretStr, Field(min_length=6, max_length=64)] | None = None


class NewPassword(BaseModel):
    """One's own password, and the one that it shall be: 12 to 256 characters."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"current": "correct horse battery", "new": "staple horse correct"}]},
    )

    current: Secret
    new: Secret


class Password(BaseModel):
    """One's own password, once more."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"password": "correct horse battery staple"}]}
    )

    password: Secret


Code = Annotated[SecretStr, Field(min_length=6, max_length=64)]


class TotpCode(BaseModel):
    """What the telephone shows."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"code": "123456"}]})

    code: Code


class TotpRemoval(Password):
    """Password and code, or recovery code, once more."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"password": "correct horse battery staple", "code": "123456"}]},
    )

    code: Code


class TotpSecret(BaseModel):
    """For the telephone, told this once: as text, and as what a QR code shows."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"secret": "JBSWY3DPEHPK3PXP", "uri": "otpauth://totp/Headend:alice?secret=JBSWY3DPEHPK3PXP"}
            ]
        }
    )

    secret: str
    uri: str


class RecoveryCodes(BaseModel):
    """Each stands in for one code of the telephone, once. Told this once."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"recovery_codes": ["0a1b2c3d-4e5f6071"]}]})

    recovery_codes: list[str]


class Who(BaseModel):
    """Who asks, and what he may do."""

    model_config = ConfigDict(json_schema_extra={"examples": [_WHO]})

    login: str | None = Field(description="null: a token of nobody's account")
    account: int | None
    actor: str = Field(description="the name in the audit trail")
    roles: list[str] = Field(description="role, or role:area; those that count now")
    permissions: list[Permission]
    areas: list[str] | None = Field(
        description="names of groups and codes of stations that everything is limited to; null: everywhere"
    )
    kind: SessionKind | None = Field(description="null: a token")
    second_factor: bool = Field(description="whether more than a password was shown")
    must_change_password: bool
    expires_at: str | None
    csrf_token: str | None = Field(
        description="goes into the header X-CSRF-Token of whatever changes anything; browsers only"
    )

    @classmethod
    def of(cls, asking: Caller) -> "Who":
        who, opened = asking.principal, asking.session
        is_browser = opened is not None and opened.session.kind is SessionKind.BROWSER
        return cls(
            login=None if opened is None else opened.login,
            account=who.account,
            actor=who.actor,
            roles=[str(one) for one in who.grants],
            permissions=sorted(who.permissions),
            areas=None if who.areas is None else sorted(who.areas),
            kind=None if opened is None else opened.session.kind,
            second_factor=opened is not None and opened.session.second_factor,
            must_change_password=opened is not None and opened.must_change,
            expires_at=None if opened is None else rfc3339(opened.session.expires_at),
            csrf_token=csrf_token(asking.secret) if is_browser else None,
        )
