"""The simulated identity providers over HTTP, as a foreign client sees them."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import jwt
import pytest

from gateway.identity.assurance import AssuredOperation
from gateway.identity.jose.trust_files import read_trust_files
from gateway.proving.counterparts.idp.provider import Group, IdentityProvider
from gateway.proving.counterparts.idp.run import write_trust_files
from gateway.proving.counterparts.idp.server import IdpServer
from schemas.codec import encode
from schemas.primitives import AMOUNT_MINOR_MAX, Money
from tests.support.assertion_samples import CONSENT_LINK, PAYMENT_LINK


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    server = IdpServer({"financial": IdentityProvider("financial"), "telecom": IdentityProvider("telecom")})
    port = await server.start(0)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session
    await server.stop()


async def post(client: aiohttp.ClientSession, path: str, body: object) -> tuple[int, dict[str, object]]:
    async with client.post(path, json=body) as response:
        return response.status, await response.json()


async def keys(client: aiohttp.ClientSession, group: str = "telecom") -> jwt.PyJWKSet:
    async with client.get(f"/{group}/jwks.json") as response:
        assert response.content_type == "application/jwk-set+json"
        return jwt.PyJWKSet.from_dict(await response.json(content_type=None))


async def test_an_assertion_is_issued_as_it_was_asked_for(client: aiohttp.ClientSession) -> None:
    for link in (PAYMENT_LINK, CONSENT_LINK):
        told = json.loads(encode(link))
        auth_time = datetime.now(UTC).replace(microsecond=0)
        asked = {"subject": "s-1", "link": told, "acr": "urn:mypay:telecom:usim", "amr": ["face"], "jti": "j-1"}
        asked |= {"auth_time": auth_time.isoformat(), "lifetime_seconds": 60}
        status, answer = await post(client, "/telecom/assertions", asked)
        assert status == 200
        token = str(answer["assertion"])
        key = (await keys(client))[str(answer["kid"])]
        claims = jwt.decode(token, key, algorithms=["ES256"], audience="https://gateway.mypay.example")
        assert claims.pop("exp") - claims.pop("iat") == 60
        assert claims == {
            "iss": "https://id.telecom.mypay.example",
            "sub": "s-1",
            "aud": "https://gateway.mypay.example",
            "auth_time": int(auth_time.timestamp()),
            "jti": "j-1",
            "acr": "urn:mypay:telecom:usim",
            "amr": ["face"],
            "mypay_link": told,
        }


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"subject": "s-1"},
        {"subject": "s-1", "link": {"kind": "payment"}},
        {"subject": "s-1", "link": json.loads(encode(PAYMENT_LINK)), "acrr": "x"},
        "text",
    ],
    ids=str,
)
async def test_a_wrong_request_is_told(client: aiohttp.ClientSession, body: object) -> None:
    status, answer = await post(client, "/telecom/assertions", body)
    assert status == 400
    assert answer["error"]


async def test_keys_rotate_and_are_withdrawn(client: aiohttp.ClientSession) -> None:
    (old,) = [k.key_id for k in (await keys(client)).keys]
    _, answer = await post(client, "/telecom/rotate", None)
    new = answer["kid"]
    assert [k.key_id for k in (await keys(client)).keys] == answer["published"] == [old, new]
    async with client.delete(f"/telecom/keys/{old}") as response:
        assert (await response.json())["published"] == [new]
    async with client.delete(f"/telecom/keys/{old}") as response:
        assert response.status == 404
    # Without any key left it makes one: whoever asks for an assertion gets one.
    async with client.delete(f"/telecom/keys/{new}") as response:
        assert (await response.json())["published"] not in ([], [new])
    assert len((await keys(client, "financial")).keys) == 1


async def test_an_unchanged_key_set_is_told_by_its_tag(client: aiohttp.ClientSession) -> None:
    async with client.get("/telecom/jwks.json") as response:
        tag = response.headers["ETag"]
    async with client.get("/telecom/jwks.json", headers={"If-None-Match": tag}) as response:
        assert (response.status, await response.read()) == (304, b"")
    await post(client, "/telecom/rotate", None)
    async with client.get("/telecom/jwks.json", headers={"If-None-Match": tag}) as response:
        assert response.status == 200


async def test_the_discovery_document_and_unknown_groups(client: aiohttp.ClientSession) -> None:
    async with client.get("/financial/.well-known/openid-configuration") as response:
        found = await response.json()
    assert found["issuer"] == "https://id.financial.mypay.example"
    async with client.get(found["jwks_uri"]) as response:
        assert response.status == 200
    async with client.get("/retail/jwks.json") as response:
        assert response.status == 404


def test_its_trust_table_is_complete_and_leaves_an_operators_policy_alone(tmp_path: Path) -> None:
    providers: dict[Group, IdentityProvider] = {"financial": IdentityProvider("financial")}
    write_trust_files(tmp_path, providers, "http://127.0.0.1:1")
    policy = read_trust_files(tmp_path).policy
    amounts = [Money.of(most, "KRW") for most in (1, 300_000, 300_001, AMOUNT_MINOR_MAX)]
    asked = [policy.requirement(AssuredOperation.PAYMENT, amount) for amount in amounts]
    assert [a.level for a in asked if a] == [1, 1, 2, 2]
    assert all(policy.requirement(o) for o in AssuredOperation)

    mine = '[[rules]]\noperation = "payment"\nlevel = 3\nmax_age_seconds = 60\n[methods]\nhwk = 3\n'
    (tmp_path / "policy.toml").write_text(mine)
    write_trust_files(tmp_path, providers, "http://127.0.0.1:2")
    assert (tmp_path / "policy.toml").read_text() == mine
    assert read_trust_files(tmp_path).issuers[providers["financial"].issuer].jwks_url == (
        "http://127.0.0.1:2/financial/jwks.json"
    )


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


async def test_it_runs_as_a_process_and_ends_on_sigterm(tmp_path: Path) -> None:
    ready, issuers = tmp_path / "ready.json", tmp_path / "issuers"
    program = "import typer; from gateway.cli.simulate_idp import idp; typer.run(idp)"
    arguments = ["--port", "0", "--ready-file", str(ready), "--issuers-dir", str(issuers)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, *arguments, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 60)
        told = json.loads(ready.read_text())
        assert told["url"] in line.decode()
        assert told["pid"] == process.pid
        trusted = read_trust_files(issuers)
        named = {name: file.jwks_url for name, file in trusted.issuers.items()}
        assert named == told["issuers"]
        async with aiohttp.ClientSession() as session:
            for url in named.values():
                async with session.get(str(url)) as response:
                    assert len((await response.json(content_type=None))["keys"]) == 1
        os.kill(process.pid, signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) == 0
        # Keys live in memory alone.
        assert files(tmp_path) == ["financial.toml", "policy.toml", "ready.json", "telecom.toml"]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
