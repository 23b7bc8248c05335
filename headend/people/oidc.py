"""OpenID Connect: log-in at the utility's own provider of identities.

::

    begin: state, nonce, code challenge kept for one browser ──> the provider, where the person logs in
    finish: state (once, this browser) ──> code for tokens (PKCE) ──> id_token: signature, issuer, audience,
            nonce, times ──> the account of (issuer, subject) ──> session

Authorisation code flow alone. OpenID Connect Core 1.0, section 3.1; RFC 7636 for the code challenge; RFC 9207
for the issuer in the answer. Accounts are found by issuer and subject, never by a name or an address of mail,
which a provider may give to another person.
"""

import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import httpx
from authlib.common.errors import AuthlibBaseError
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from pydantic import SecretStr

from headend.people.login import Connect, People, open_session
from headend.store import accounts, audit, oidc
from headend.store.accounts import Account
from headend.store.errors import ConflictError
from headend.store.sessions import IssuedSession, SessionKind
from headend.store.sql import Connection
from schemas.config import Settings
from schemas.people import LOGIN_PATTERN, AccountState, Grant

#: How long a person may take at the provider.
PATIENCE: Final = timedelta(minutes=10)
_DEADLINE_S: Final = 10.0
_MOST_BYTES: Final = 256 * 1024
#: Clocks of ours and of the provider's differ by so much at most, in seconds.
_LEEWAY_S: Final = 60
#: How long what the provider tells of itself is believed, in seconds.
_KEPT_S: Final = 3600.0
#: Signatures alone: none, and none by a secret that both sides have.
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
#: Of RFC 8176: more than a password was shown.
_MORE_THAN_A_PASSWORD: Final = frozenset({"mfa", "otp", "hwk", "sc"})


class Refused(Exception):
    """The log-in is not believed: what was wrong, and what to do. Never a token, code or secret."""


class NotBegun(Refused):
    """Nothing of the kind is under way; anybody can send such a thing, so that it is not recorded."""


class ProviderAway(Exception):
    """The provider of identities does not answer as it should."""


class Begun(NamedTuple):
    """Where the browser goes, and what it keeps until it comes back."""

    url: str
    binding: str


@dataclass(frozen=True, slots=True)
class Arrived:
    """What the browser brings back, and what is known of it."""

    state: str
    code: str | None
    error: str | None
    issuer: str | None
    binding: str | None
    address: str | None = None
    user_agent: str | None = None
    kind: SessionKind = SessionKind.BROWSER


@dataclass(slots=True)
class Provider:
    """One provider of identities, by the settings. ``roles`` tells what a value of ``roles_claim`` is worth;
    where it is empty, roles are given here as for everybody."""

    issuer: str
    client_id: str
    redirect_url: str
    client_secret: SecretStr | None = None
    roles_claim: str = "groups"
    roles: Mapping[str, tuple[Grant, ...]] = field(default_factory=dict)
    is_second_factor: bool = False
    _metadata: tuple[float, Mapping[str, Any]] | None = field(default=None, repr=False)
    _keys: KeySet | None = field(default=None, repr=False)

    @classmethod
    def of(cls, settings: Settings) -> "Provider | None":
        """As the settings say; None where they name no issuer."""
        if (
            settings.oidc_issuer is None
            or settings.oidc_client_id is None
            or settings.oidc_redirect_url is None
        ):
            return None
        return cls(
            settings.oidc_issuer,
            settings.oidc_client_id,
            settings.oidc_redirect_url,
            settings.oidc_client_secret,
            settings.oidc_roles_claim,
            {
                value: tuple(Grant.parse(one) for one in grants)
                for value, grants in settings.oidc_roles.items()
            },
            settings.oidc_second_factor == "provider",
        )

    async def begin(self, connect: Connect, *, now: datetime) -> Begun:
        """Send somebody there. Raises ProviderAway."""
        told = await self._told()
        state, nonce, verifier, binding = (secrets.token_urlsafe(32) for _ in range(4))
        async with connect() as connection:
            await oidc.begin(
                connection,
                state=_digest(state),
                binding=_digest(binding),
                nonce=nonce,
                verifier=verifier,
                now=now,
                expires_at=now + PATIENCE,
            )
        url = prepare_grant_uri(
            told["authorization_endpoint"],
            self.client_id,
            "code",
            redirect_uri=self.redirect_url,
            scope="openid profile",
            state=state,
            nonce=nonce,
            code_challenge=create_s256_code_challenge(verifier),
            code_challenge_method="S256",
        )
        return Begun(str(url), binding)

    async def finish(
        self, connect: Connect, people: People, came: Arrived, *, now: datetime
    ) -> IssuedSession:
        """A session of whoever the provider says it is. Raises Refused (audited), ProviderAway."""
        try:
            claims = await self._proved(connect, came, now)
            async with connect() as connection, connection.transaction():
                account = await self._account(connection, claims, now)
                second = self.is_second_factor or bool(
                    _MORE_THAN_A_PASSWORD.intersection(claims.get("amr") or ())
                )
                return await open_session(
                    connection, people, account, came, second_factor=second, how=self.issuer, now=now
                )
        except NotBegun:
            raise
        except Refused as error:
            async with connect() as connection:
                await audit.record(
                    connection,
                    actor="nobody",
                    action="session.refused",
                    object_="account:unknown",
                    detail={"reason": str(error), "by": self.issuer, "address": came.address},
                )
            raise

    async def _proved(self, connect: Connect, came: Arrived, now: datetime) -> Mapping[str, Any]:
        async with connect() as connection:
            begun = await oidc.take(connection, _digest(came.state), now=now)
        if (
            begun is None
            or came.binding is None
            or not hmac.compare_digest(begun.binding, _digest(came.binding))
        ):
            raise NotBegun("the log-in was not begun in this browser, or took too long: begin again")
        if came.issuer is not None and came.issuer != self.issuer:
            raise Refused("the answer is of another provider: begin again")
        if came.error is not None or came.code is None:
            raise Refused("the provider refused the log-in, or it was given up there")
        tokens = await self._tokens(came.code, begun.verifier)
        id_token = tokens.get("id_token")
        if not isinstance(id_token, str):
            raise Refused("the provider sent no id_token: is the scope openid allowed to this client?")
        return await self._claims(id_token, begun.nonce, tokens.get("access_token"), now)

    async def _claims(
        self, id_token: str, nonce: str, access_token: object, now: datetime
    ) -> Mapping[str, Any]:
        """What the id_token says, once it is believed."""
        token = None
        for fresh in (False, True):  # keys are changed: those of now are asked for once
            try:
                token = jwt.decode(id_token, await self._key_set(fresh=fresh), algorithms=list(ALGORITHMS))
                break
            except (JoseError, ValueError) as error:
                if fresh:
                    raise Refused(f"the id_token is not signed by the provider ({_name(error)})") from None
        if token is None:
            raise Refused("the id_token is not signed by the provider")
        options = {
            "iss": {"essential": True, "value": self.issuer},
            "aud": {"essential": True, "value": self.client_id},
            "exp": {"essential": True},
            "iat": {"essential": True},
            "sub": {"essential": True},
        }
        params = {"nonce": nonce, "client_id": self.client_id, "access_token": access_token}
        claims = CodeIDToken(token.claims, token.header, options, params)
        try:
            claims.validate(now=int(now.timestamp()), leeway=_LEEWAY_S)
        except (JoseError, AuthlibBaseError, TypeError, ValueError) as error:
            raise Refused(f"the id_token is not for this log-in ({_name(error)})") from None
        if not isinstance(token.claims.get("sub"), str) or not 0 < len(token.claims["sub"]) <= 255:
            raise Refused("the id_token names nobody")
        return token.claims

    async def _account(self, connection: Connection, claims: Mapping[str, Any], now: datetime) -> Account:
        """The account of the subject, made at its first log-in; its roles as the claims are worth."""
        subject = claims["sub"]
        account = await accounts.by_identity(connection, self.issuer, subject)
        if account is None:
            account = await self._new(connection, claims, now)
        if account.state is not AccountState.ACTIVE:
            raise Refused(f"the account {account.login} is {account.state}")
        if self.roles:
            wanted = sorted(
                {one for value in _values(claims.get(self.roles_claim)) for one in self.roles.get(value, ())},
                key=str,
            )
            if tuple(wanted) != tuple(sorted(account.grants, key=str)):
                try:
                    await accounts.set_grants(connection, account.account_id, wanted)
                except ConflictError as error:
                    raise Refused(f"oidc_roles cannot be given: {error}") from error
                await audit.record(
                    connection,
                    actor=self.issuer,
                    action="account.roles",
                    object_=f"account:{account.login}",
                    detail={"from": [str(one) for one in account.grants], "to": [str(one) for one in wanted]},
                )
                account = await accounts.get(connection, account.account_id)
        return account

    async def _new(self, connection: Connection, claims: Mapping[str, Any], now: datetime) -> Account:
        subject = claims["sub"]
        wanted = str(claims.get("preferred_username") or "").strip().lower()
        digest = hashlib.sha256(f"{self.issuer} {subject}".encode()).hexdigest()[:12]
        title = str(claims.get("name") or wanted or subject)[:128]
        names = [wanted] if re.fullmatch(LOGIN_PATTERN, wanted) else []
        for login in (*names, f"oidc-{digest}"):
            try:
                async with connection.transaction():
                    account = await accounts.add(
                        connection, login=login, title=_clean(title), now=now, oidc=(self.issuer, subject)
                    )
            except ConflictError:
                continue  # the name is another account's: that is not taken over
            await audit.record(
                connection,
                actor=self.issuer,
                action="account.create",
                object_=f"account:{account.login}",
                detail={"by": self.issuer},
            )
            return account
        raise Refused("the account was made by another log-in at the same time: begin again")

    # ---- what the provider says -------------------------------------------------------------------------

    async def _told(self) -> Mapping[str, Any]:
        """Its metadata (OpenID Connect Discovery 1.0, section 4)."""
        if self._metadata is not None and time.monotonic() - self._metadata[0] < _KEPT_S:
            return self._metadata[1]
        told = await _fetch("GET", f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
        if told.get("issuer") != self.issuer:
            raise ProviderAway(
                f"{self.issuer} says that it is another issuer: oidc_issuer is to be as it says"
            )
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            url = told.get(name)
            if not isinstance(url, str) or not is_safe(url):
                raise ProviderAway(f"{self.issuer} names no {name} under https")
        self._metadata = (time.monotonic(), told)
        return told

    async def _key_set(self, *, fresh: bool) -> KeySet:
        if self._keys is None or fresh:
            told = await _fetch("GET", (await self._told())["jwks_uri"])
            try:
                self._keys = KeySet.import_key_set(told)  # type: ignore[arg-type]
            except (JoseError, KeyError, TypeError, ValueError) as error:
                raise ProviderAway(f"the keys of {self.issuer} cannot be read ({_name(error)})") from None
        return self._keys

    async def _tokens(self, code: str, verifier: str) -> Mapping[str, Any]:
        told = await self._told()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_url,
            "code_verifier": verifier,
            "client_id": self.client_id,
        }
        auth = None
        if self.client_secret is not None:
            # RFC 6749, section 2.3.1: both are form-encoded first.
            pair = (self.client_id, self.client_secret.get_secret_value())
            auth = httpx.BasicAuth(*(quote(one, safe="") for one in pair))
        return await _fetch("POST", told["token_endpoint"], form=form, auth=auth)


def is_safe(url: str) -> bool:
    """https; http where it does not leave the host."""
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return parts.scheme == "https" or (
        parts.scheme == "http" and parts.host in {"127.0.0.1", "::1", "localhost"}
    )


async def _fetch(
    method: str, url: str, *, form: Mapping[str, str] | None = None, auth: httpx.Auth | None = None
) -> Mapping[str, Any]:
    """A JSON object. Raises ProviderAway; Refused where the provider says 400 or 401 to a code."""
    body = bytearray()
    try:
        async with (
            httpx.AsyncClient(timeout=_DEADLINE_S, follow_redirects=False, auth=auth) as client,
            client.stream(method, url, data=form, headers={"Accept": "application/json"}) as answer,
        ):
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > _MOST_BYTES:
                    raise ProviderAway(f"{url} sent more than {_MOST_BYTES} bytes")
    except httpx.HTTPError as error:
        raise ProviderAway(f"{url} does not answer ({_name(error)})") from None
    if answer.status_code in {400, 401} and form is not None:
        raise Refused("the provider does not take the code: it was used, or the client's secret is wrong")
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if answer.status_code != 200 or not isinstance(found, dict):
        raise ProviderAway(f"{url} answered with status {answer.status_code} and no JSON object")
    return found


def _values(claim: object) -> list[str]:
    if isinstance(claim, str):
        return [claim]
    return [one for one in claim if isinstance(one, str)] if isinstance(claim, list) else []


def _clean(title: str) -> str:
    return "".join(one for one in title if one.isprintable()).strip() or "?"


def _name(error: Exception) -> str:
    return getattr(error, "error", None) or type(error).__name__


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
