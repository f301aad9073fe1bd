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

from gateway.app.operating import Actor
from gateway.app.proposals import propose
from gateway.console.web import Console
from gateway.directory.approval import identity_of
from tests.support.console import Browser, browsing, fill, running, settings_of


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
        status, where = await sign_in(browser, provider, state=state, **answer)
        overview = await browser.get("/")
        return status, where, overview[1] if overview[0] == 200 else ""


async def sign_in(browser: Browser, provider: Provider, *, state: str | None = None, **answer: str) -> tuple[int, str]:
    status, _, headers = await browser.get("/oidc/start")
    if status != 303:
        return status, ""
    asked = {n: v[0] for n, v in parse_qs(urlsplit(headers["Location"]).query).items()}
    provider.asked = asked
    assert asked["code_challenge_method"] == "S256"
    assert asked["redirect_uri"] == f"{browser.console.url}/oidc/callback"
    given = {"code": "code-1", "state": state or asked["state"], **answer}
    query = "&".join(f"{n}={v}" for n, v in given.items())
    status, _, headers = await browser.get(f"/oidc/callback?{query}")
    return status, headers.get("Location", "")


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
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "x" * 256},
        {"sub": "a\x00b"},
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


APPROVAL = {"affiliate_id": "affiliate-1", "use": "loyalty", "legal_basis": "the consent"}


async def approving(console: Console, provider: Provider, proposal: object, name: str, subject: str) -> tuple[int, str]:
    """Whom the provider names so approves it."""
    provider.claims = {"preferred_username": name, "sub": subject, "roles": ["mypay-approver"]}
    async with browsing(console) as browser:
        assert (await sign_in(browser, provider))[0] == 303
        return await browser.act("proposal-approve", proposal_id=str(proposal))


async def proposed(dsn: str, identity: str | None) -> object:
    return await propose(dsn, Actor("kim", "ticket 7", identity), "affiliate.approve", "affiliate-1 loyalty", APPROVAL)


async def test_who_proposed_something_does_not_approve_it_under_another_name_of_theirs(
    console: Console, provider: Provider, filled: str
) -> None:
    own = await proposed(filled, identity_of(provider.issuer, "s1"))
    status, text = await approving(console, provider, own, "lee", "s1")
    assert (status, "whoever proposed it cannot approve it" in text) == (409, True)
    assert (await approving(console, provider, own, "lee", "s2"))[0] == 200


async def test_a_name_of_the_providers_and_one_of_ours_are_not_two_people(
    console: Console, provider: Provider, filled: str, tmp_path: Path
) -> None:
    ours, theirs = await proposed(filled, None), await proposed(filled, identity_of(provider.issuer, "s1"))
    status, text = await approving(console, provider, ours, "lee", "s2")
    assert (status, "nobody can tell that you are two people" in text) == (409, True)
    async with browsing(console, "boss") as boss:
        assert (await boss.act("proposal-approve", proposal_id=str(theirs)))[0] == 409
    # And past the program.
    connection = await asyncpg.connect(filled)
    try:
        for proposal, identity in ((ours, f"{provider.issuer} s2"), (theirs, None), (theirs, f"{provider.issuer} s1")):
            with pytest.raises(asyncpg.CheckViolationError):
                await connection.execute(
                    "INSERT INTO operator_decision (proposal_id, decision, operator, why, identity)"
                    " VALUES ($1, 'approved', 'lee', '', $2)",
                    *(proposal, identity),
                )
    finally:
        await connection.close()
    # Where the provider has our names, they are.
    settings = settings_of(filled, tmp_path, console_oidc_issuer=provider.issuer, console_oidc_own_names=True)
    async with running(settings) as other:
        assert (await approving(other, provider, ours, "kim", "s2"))[0] == 409
        assert (await approving(other, provider, ours, "lee", "s2"))[0] == 200


async def test_whom_a_console_of_before_let_in_by_a_provider_signs_in_again(
    console: Console, provider: Provider, filled: str
) -> None:
    async with browsing(console) as browser:
        await sign_in(browser, provider)
        assert (await browser.get("/"))[0] == 200
        connection = await asyncpg.connect(filled)
        await connection.execute("UPDATE console_session SET identity = NULL")
        await connection.close()
        assert (await browser.get("/"))[0] == 303
