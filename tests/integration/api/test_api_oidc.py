"""Log-in by OpenID Connect, against a provider of our own on a real socket: it signs with RSA keys and keeps
to the code flow, and lies as each test wants it to. No recorded exchange of a foreign provider is at hand.
"""

import asyncio
import base64
import hashlib
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from joserfc import jwt
from joserfc.jwk import RSAKey
from pydantic import SecretStr

from headend.people.oidc import Provider, is_safe
from schemas.people import Grant, Role
from tests.integration.api.conftest import app_over
from tests.integration.api.test_api_sessions import LOGIN, browser
from tests.integration.people import APPROVING, NOW, account, people

OIDC = f"{LOGIN}/oidc"
CLIENT, SECRET = "headend", "a secret of the client: +/%"
KEY = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})
OTHER = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})


def _b64(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


class Idp:
    """A provider of identities. ``lie`` changes the claims of an id_token, ``sign`` makes the token."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.issuer = ""
        self.codes: dict[str, dict[str, str]] = {}
        self.claims: dict[str, Any] = {"sub": "s-1", "preferred_username": "Alice", "name": "Alice Example"}
        self.lie: dict[str, Any] = {}
        self.sign = lambda claims: jwt.encode({"alg": "RS256", "kid": "one"}, claims, KEY)
        self.metadata: dict[str, Any] = {}
        self.app.get("/.well-known/openid-configuration")(self._configuration)
        self.app.get("/keys")(self._keys)
        self.app.post("/token")(self._token)

    async def _configuration(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
        } | self.metadata

    async def _keys(self) -> dict[str, Any]:
        return {"keys": [KEY.as_dict(private=False)]}

    def authorize(self, url: str) -> tuple[str, str]:
        """The person logs in there: (code, state) as they come back."""
        asked = {name: value[0] for name, value in parse_qs(urlsplit(url).query).items()}
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        code = f"code{len(self.codes)}"
        self.codes[code] = asked
        return code, asked["state"]

    async def _token(self, request: Request) -> JSONResponse:
        form = {name: value[0] for name, value in parse_qs((await request.body()).decode()).items()}
        pair = base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode()
        asked = self.codes.pop(form["code"], None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest())
        if (
            asked is None
            or pair != "headend:a%20secret%20of%20the%20client%3A%20%2B%2F%25"
            or challenge.rstrip(b"=").decode() != asked["code_challenge"]
            or form["redirect_uri"] != asked["redirect_uri"]
        ):
            return JSONResponse({"error": "invalid_grant"}, 400)
        now = int(NOW.timestamp())
        claims = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked["nonce"]}
        told = {name: value for name, value in (claims | self.claims | self.lie).items() if value is not None}
        return JSONResponse({"access_token": "x", "token_type": "Bearer", "id_token": self.sign(told)})


@pytest.fixture
async def idp() -> AsyncIterator[Idp]:
    made = Idp()
    listener = socket.create_server(("127.0.0.1", 0))
    made.issuer = f"http://127.0.0.1:{listener.getsockname()[1]}"
    running = uvicorn.Server(uvicorn.Config(made.app, log_level="warning", lifespan="off", ws="none"))
    running.install_signal_handlers = lambda: None  # type: ignore[method-assign,attr-defined]
    serving = asyncio.create_task(running.serve(sockets=[listener]), name="provider")
    yield made
    running.should_exit = True
    await serving
    listener.close()


@pytest.fixture
def with_idp(house: Any, idp: Idp) -> Any:
    def made(**settings: Any) -> Any:
        house.people = people(second=settings.pop("second", frozenset()))
        settings = {"client_secret": SecretStr(SECRET)} | settings
        provider = Provider(idp.issuer, CLIENT, f"http://headend{OIDC}/callback", **settings)
        house.app = app_over(replace(house.app.state.services, people=house.people, oidc=provider))
        return house

    return made


async def through(page: Any, idp: Idp, **more: str) -> httpx.Response:
    """There and back."""
    begun = await page.get(OIDC)
    assert begun.status_code == 303, begun.text
    code, state = idp.authorize(begun.headers["location"])
    return await page.get(f"{OIDC}/callback", params={"code": code, "state": state} | more)


async def test_somebody_new_comes_in_without_a_role(with_idp: Any, idp: Idp) -> None:
    house = with_idp()
    async with browser(house) as page:
        came = await through(page, idp, iss=idp.issuer)
        assert (came.status_code, came.headers["location"]) == (303, "/docs")
        who = (await page.get(LOGIN)).json()
        assert (who["login"], who["roles"], who["second_factor"]) == ("alice", [], False)
        assert (await page.get("/api/v1/meters")).status_code == 403
    async with browser(house) as again:
        await through(again, idp)
        assert (await again.get(LOGIN)).json()["account"] == who["account"]
    said = [line[1] for line in house.audit()]
    assert said == ["account.create", "session.open", "session.open"]
    assert SECRET not in str(house.audit())


def _none_alg(claims: dict[str, Any]) -> str:
    return f"{_b64({'alg': 'none'})}.{_b64(claims)}."


def _by_public_key(claims: dict[str, Any]) -> str:
    """The confusion of old: the public key, taken for a shared secret."""
    import hmac

    head = f"{_b64({'alg': 'HS256', 'kid': 'one'})}.{_b64(claims)}"
    mac = hmac.digest(KEY.as_pem(private=False), head.encode(), "sha256")
    return f"{head}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


NOW_S = int(NOW.timestamp())
LIES: dict[str, dict[str, Any]] = {
    "another nonce": {"lie": {"nonce": "of another log-in"}},
    "no nonce": {"lie": {"nonce": None}},
    "another audience": {"lie": {"aud": "another-client"}},
    "no audience": {"lie": {"aud": None}},
    "several audiences, no party": {"lie": {"aud": [CLIENT, "another-client"]}},
    "another party": {"lie": {"aud": [CLIENT, "another-client"], "azp": "another-client"}},
    "another issuer": {"lie": {"iss": "https://evil.example"}},
    "expired": {"lie": {"iat": NOW_S - 900, "exp": NOW_S - 61}},
    "no end": {"lie": {"exp": None}},
    "issued in the future": {"lie": {"iat": NOW_S + 3600}},
    "nobody": {"lie": {"sub": ""}},
    "a number": {"lie": {"sub": 7}},
    "alg none": {"sign": _none_alg},
    "alg HS256 by the public key": {"sign": _by_public_key},
    "another key": {"sign": lambda claims: jwt.encode({"alg": "RS256", "kid": "one"}, claims, OTHER)},
    "no token at all": {"sign": lambda _: "x"},
    "another's access token": {"lie": {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}},
}


async def test_what_is_not_for_this_log_in_is_not_believed(with_idp: Any, idp: Idp) -> None:
    house = with_idp()
    honest = idp.sign
    for what, lie in LIES.items():
        idp.lie, idp.sign = lie.get("lie", {}), lie.get("sign", honest)
        async with browser(house) as page:
            came = await through(page, idp)
            assert came.status_code == 401, what
            assert "set-cookie" not in came.headers, what
            assert (await page.get(LOGIN)).status_code == 401, what
    assert [line[1] for line in house.audit()] == ["session.refused"] * len(LIES)
    idp.lie, idp.sign = {}, honest
    async with browser(house) as page:
        assert (await through(page, idp)).status_code == 303, "the truth is believed"


async def test_a_log_in_is_of_one_browser_and_once(with_idp: Any, idp: Idp) -> None:
    house = with_idp()
    async with browser(house) as page, browser(house) as other:
        begun = await page.get(OIDC)
        code, state = idp.authorize(begun.headers["location"])
        back = {"code": code, "state": state}
        assert (await other.get(f"{OIDC}/callback", params=back)).status_code == 401, "planted"
        assert (await page.get(f"{OIDC}/callback", params=back)).status_code == 401, "and then it is gone"
        assert (
            await page.get(f"{OIDC}/callback", params={"state": "x" * 40, "code": "y"})
        ).status_code == 401
        assert (await through(page, idp, iss="https://evil.example")).status_code == 401
        begun = await page.get(OIDC)
        _, state = idp.authorize(begun.headers["location"])
        gave_up = {"state": state, "error": "access_denied"}
        assert (await page.get(f"{OIDC}/callback", params=gave_up)).status_code == 401
        stolen, _ = idp.authorize(begun.headers["location"])
        assert (await through(page, idp, code=stolen)).status_code == 401, "a code of another challenge"
        assert (await through(page, idp)).status_code == 303


async def test_an_account_is_not_taken_over_by_its_name(with_idp: Any, idp: Idp) -> None:
    house = with_idp()
    local = await account(house.pool, house.people, "alice", "administrator")
    async with browser(house) as page:
        await through(page, idp)
        who = (await page.get(LOGIN)).json()
    assert who["account"] != local.account_id
    assert who["login"].startswith("oidc-")
    assert who["permissions"] == []


async def test_claims_are_worth_roles_and_the_provider_may_see_to_the_second_factor(
    with_idp: Any, idp: Idp
) -> None:
    house = with_idp(
        second=APPROVING,
        roles={"ops": (Grant(Role.OPERATOR),), "see": (Grant(Role.VIEWER),)},
    )
    idp.claims |= {"groups": ["ops", "see", "others"], "amr": ["pwd"]}
    async with browser(house) as page:
        await through(page, idp)
        assert (await page.get(LOGIN)).json()["roles"] == ["viewer"], "no second factor was shown"
        idp.claims["amr"] = ["pwd", "mfa"]
        await through(page, idp)
        assert (await page.get(LOGIN)).json()["roles"] == ["operator", "viewer"]
        idp.claims["groups"] = "see"
        async with browser(house) as other:
            await through(other, idp)
        assert (await page.get(LOGIN)).json()["roles"] == ["viewer"], "lost there is lost here, at once"
        async with house.pool.connection() as connection:
            await connection.execute("UPDATE accounts SET state = 'disabled'")
        assert (await through(page, idp)).status_code == 401


async def test_a_provider_that_is_away_or_another_is_told(with_idp: Any, idp: Idp) -> None:
    house = with_idp()
    idp.metadata = {"issuer": "https://evil.example"}
    async with browser(house) as page:
        away = await page.get(OIDC)
        assert (away.status_code, "another issuer" in away.json()["detail"]) == (503, True)
        idp.metadata = {"token_endpoint": "http://198.51.100.1/token"}
        assert "token_endpoint" in (await page.get(OIDC)).json()["detail"]
    async with browser(house, address="192.0.2.1") as page:
        assert (await page.get(OIDC)).status_code == 403, "over plain http from elsewhere"


async def test_without_a_provider_there_is_no_such_way(house: Any) -> None:
    async with browser(house) as page:
        assert (await page.get(OIDC)).status_code == 404
        assert (await page.get(f"{OIDC}/callback", params={"state": "x"})).status_code == 404


def test_providers_speak_https() -> None:
    for url, safe in (
        ("https://id.example", True),
        ("http://127.0.0.1:1", True),
        ("http://id.example", False),
        ("ftp://id.example", False),
        ("http://127.0.0.1.evil.example", False),
        ("", False),
    ):
        assert is_safe(url) is safe, url
