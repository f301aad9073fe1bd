"""Signing in at the console with an OpenID provider, one that is honest and ones that are not."""

import base64
import hashlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey

from gateway.console.web import Console
from tests.support.console import browsing, fill, running, settings_of


@dataclass
class Provider:
    """A provider that a test can make lie. ``claims``: what its ID tokens say differently; None leaves one out."""

    claims: dict[str, Any] = field(default_factory=dict)
    key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256", {"kid": "k1"}, private=True))
    signing: ECKey | None = None
    issuer: str = ""
    asked: dict[str, str] = field(default_factory=dict)
    told_issuer: str | None = None

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._metadata)
        app.router.add_get("/keys", self._keys)
        app.router.add_post("/token", self._token)
        return app

    async def _metadata(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "issuer": self.told_issuer or self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
            }
        )

    async def _keys(self, _: web.Request) -> web.Response:
        return web.json_response({"keys": [self.key.as_dict(private=False)]})

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        verifier = str(form["code_verifier"])
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        if challenge != self.asked["code_challenge"] or form["code"] != "code-1":
            return web.json_response({"error": "invalid_grant"}, status=400)
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": "s1",
            "aud": "mypay-console",
            "iat": now,
            "exp": now + 60,
            "nonce": self.asked["nonce"],
            "preferred_username": "kim",
            "roles": ["mypay-viewer", "mypay-operator", "other"],
            **self.claims,
        }
        said = {n: v for n, v in claims.items() if v is not None}
        token = jwt.encode({"alg": "ES256", "kid": "k1"}, said, self.signing or self.key)
        return web.json_response({"id_token": token, "token_type": "Bearer", "access_token": "x"})


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    provider = Provider()
    runner = web.AppRunner(provider.application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    provider.issuer = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield provider
    await runner.cleanup()


@pytest.fixture(scope="module")
async def filled(module_database: str) -> str:
    await fill(module_database)
    return module_database


@pytest.fixture
async def console(filled: str, provider: Provider, tmp_path: Path) -> AsyncIterator[Console]:
    async with running(settings_of(filled, tmp_path, console_oidc_issuer=provider.issuer)) as console:
        yield console


async def come_back(
    console: Console, provider: Provider, *, state: str | None = None, **answer: str
) -> tuple[int, str, str]:
    """Leave for the provider and come back: status, where to, and what the overview then answers."""
    async with browsing(console) as browser:
        status, _, headers = await browser.get("/oidc/start")
        if status != 303:
            return status, "", ""
        asked = {n: v[0] for n, v in parse_qs(urlsplit(headers["Location"]).query).items()}
        provider.asked = asked
        assert asked["code_challenge_method"] == "S256"
        assert asked["redirect_uri"] == f"{console.url}/oidc/callback"
        given = {"code": "code-1", "state": state or asked["state"], **answer}
        query = "&".join(f"{n}={v}" for n, v in given.items())
        status, _, headers = await browser.get(f"/oidc/callback?{query}")
        overview = await browser.get("/")
        return status, headers.get("Location", ""), overview[1] if overview[0] == 200 else ""


async def test_whoever_the_provider_names_is_let_in_with_the_highest_role_that_it_gives(
    console: Console, provider: Provider, filled: str
) -> None:
    status, where, overview = await come_back(console, provider)
    assert (status, where) == (303, "/")
    assert "kim <small>operator</small>" in overview
    connection = await asyncpg.connect(filled)
    try:
        found = await connection.fetchrow("SELECT name, role, is_local FROM console_session WHERE name = 'kim'")
    finally:
        await connection.close()
    assert tuple(found) == ("kim", "operator", False)


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "another-client"},
        {"aud": ["mypay-console", "another"], "azp": "another"},
        {"iss": "https://evil.example"},
        {"exp": 1},
        {"exp": None},
        {"iat": None},
        {"roles": ["other"]},
        {"roles": "mypay-approver"},
        {"roles": None},
        {"preferred_username": None},
        {"preferred_username": "two words"},
        {"preferred_username": 7},
    ],
    ids=str,
)
async def test_a_token_that_proves_nobody_lets_nobody_in(
    console: Console, provider: Provider, claims: dict[str, Any]
) -> None:
    provider.claims = claims
    assert (await come_back(console, provider))[0::2] == (403, "")


async def test_another_key_another_browser_and_another_issuer_let_nobody_in(
    console: Console, provider: Provider
) -> None:
    provider.signing = ECKey.generate_key("P-256", {"kid": "k1"}, private=True)
    assert (await come_back(console, provider))[0] == 403
    provider.signing = None
    assert (await come_back(console, provider, state="another"))[0] == 403
    assert (await come_back(console, provider, code="another"))[0] == 403
    assert (await come_back(console, provider, iss="https://evil.example"))[0] == 403
    async with browsing(console) as browser:
        # Somebody else's answer, in a browser that never left.
        status, _, headers = await browser.get("/oidc/callback?code=code-1&state=x")
        assert (status, headers["Location"]) == (303, "/sign-in")
    assert (await come_back(console, provider))[0] == 303


async def test_metadata_of_another_issuer_is_not_believed(console: Console, provider: Provider) -> None:
    provider.told_issuer = "https://evil.example"
    assert (await come_back(console, provider))[0] == 403
