"""Why an OpenID provider let nobody in is told to operators: which claim of the ID token, or its signature."""

import time
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from gateway.console.oidc import Attempt, OidcClient, OidcError
from tests.support.console import settings_of

ISSUER = "https://id.example"
ATTEMPT = Attempt("state", "nonce", "verifier")
KEY = ECKey.generate_key("P-256", {"kid": "k1"}, private=True)
OTHER = ECKey.generate_key("P-256", {"kid": "k1"}, private=True)


class Client(OidcClient):
    """Talks to a provider that answers from here; its ID token is given."""

    token = ""

    async def _json(self, method: str, url: str, **asked: Any) -> dict[str, Any]:
        if url.endswith("openid-configuration"):
            places = {n: f"{ISSUER}/{n}" for n in ("authorization_endpoint", "token_endpoint", "jwks_uri")}
            return {"issuer": ISSUER, **places}
        return {"keys": [KEY.as_dict(private=False)]} if url.endswith("jwks_uri") else {"id_token": self.token}


async def refused(folder: Path, key: ECKey, **changed: Any) -> str:
    settings = settings_of("postgresql://x", folder).model_copy(update={"console_oidc_issuer": ISSUER})
    now = int(time.time())
    given = {
        "iss": ISSUER,
        "aud": "mypay-console",
        "sub": "4111111111111111",
        "exp": now + 600,
        "iat": now,
        "nonce": "nonce",
    }
    claims = {name: value for name, value in {**given, **changed}.items() if value is not None}
    client = Client(settings, "http://127.0.0.1/oidc/callback", None)  # type: ignore[arg-type]
    client.token = jwt.encode({"alg": "ES256", "kid": "k1"}, claims, key)
    with pytest.raises(OidcError) as error:
        await client.finish(ATTEMPT, {"state": "state", "code": "code"})
    return str(error.value)


@pytest.mark.parametrize(
    ("claim", "value"),
    [("aud", "another"), ("nonce", None), ("exp", 1), ("iss", "https://evil.example"), ("sub", None)],
)
async def test_the_claim_that_is_wrong_is_named(tmp_path: Path, claim: str, value: Any) -> None:
    told = await refused(tmp_path, KEY, **{claim: value})
    assert told == f"the ID token's claim {claim} is missing, past, or not what was asked for"


async def test_a_signature_of_another_key_is_told_as_one(tmp_path: Path) -> None:
    told = await refused(tmp_path, OTHER)
    assert told == "the ID token is not signed with a key of the provider's, or cannot be read"


async def test_who_has_no_role_is_told_so(tmp_path: Path) -> None:
    assert await refused(tmp_path, KEY, preferred_username="kim") == "the ID token gives no role"
