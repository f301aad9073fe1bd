"""Signing in with an OpenID provider: authorization code with PKCE (RFC 7636), as OAuth 2.1 and RFC 9700 ask for it.

What begins in a browser ends in the same one: state, nonce and code verifier wait in a cookie of that browser. The ID
token is verified against the provider's keys: signature, issuer, audience, expiry and nonce.
"""

import base64
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
from joserfc import jwt
from joserfc.errors import ClaimError, JoseError
from joserfc.jwk import KeySet

from gateway.app.settings import Settings
from gateway.base.unasked import why_unasked
from gateway.directory.approval import identity_of
from gateway.directory.console_roles import ConsoleRole

TIMEOUT_S: Final = 10.0
LEEWAY_S: Final = 30
ALGORITHMS: Final = ("ES256", "RS256", "PS256", "Ed25519", "EdDSA")
"""Signatures of public keys alone: a token that is MACed could be made by whoever knows the client's secret."""

SUBJECT_CHARS_MAX: Final = 255
_ANSWER_BYTES_MAX: Final = 256 * 1024
_ROLE_PREFIX: Final = "mypay-"


class OidcError(Exception):
    """The provider let nobody in; the text is for the log, and holds nothing of an answer."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the browser keeps between leaving and coming back."""

    state: str
    nonce: str
    verifier: str = field(repr=False)

    def cookie(self) -> str:
        """As a cookie's value."""
        return f"{self.state}.{self.nonce}.{self.verifier}"

    @classmethod
    def read(cls, cookie: str) -> "Attempt | None":
        """The attempt in a cookie; None where it is none."""
        parts = cookie.split(".")
        return cls(*parts) if len(parts) == 3 and all(parts) else None


@dataclass(slots=True)
class OidcClient:
    """The console as a client of one provider."""

    settings: Settings
    redirect_uri: str
    http: aiohttp.ClientSession
    _metadata: Mapping[str, Any] | None = None

    async def begin(self) -> tuple[str, Attempt]:
        """Where the browser goes, and what it keeps.

        Raises:
            OidcError: the provider does not answer.
        """
        metadata = await self._discover()
        attempt = Attempt(secrets.token_urlsafe(24), secrets.token_urlsafe(24), secrets.token_urlsafe(48))
        challenge = base64.urlsafe_b64encode(sha256(attempt.verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": self.settings.console_oidc_client_id,
            "redirect_uri": self.redirect_uri,
            "scope": "openid profile",
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return f"{metadata['authorization_endpoint']}?{urlencode(asked)}", attempt

    async def finish(self, attempt: Attempt, answer: Mapping[str, str]) -> tuple[str, ConsoleRole, str]:
        """Who came back: the operator's name, role and identity (:func:`gateway.directory.approval.identity_of`).

        Raises:
            OidcError: the answer is not to this attempt, or proves nobody, or nobody with a role here.
        """
        metadata = await self._discover()
        # As bytes: texts beyond ASCII are not compared. Both are from a browser, and may hold anything.
        if not hmac.compare_digest(_bytes(answer.get("state", "")), _bytes(attempt.state)):
            raise OidcError("the state is not this browser's")
        # RFC 9207, where the provider says that it tells.
        if answer.get("iss", metadata["issuer"]) != metadata["issuer"]:
            raise OidcError("the answer is another issuer's")
        if not (code := answer.get("code")):
            raise OidcError("there is no code")
        asked = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "client_id": self.settings.console_oidc_client_id,
            "code_verifier": attempt.verifier,
        }
        secret = self.settings.console_oidc_client_secret
        if secret is not None:
            asked["client_secret"] = secret.get_secret_value()
        tokens = await self._json("POST", metadata["token_endpoint"], data=asked)
        claims = await self._verified(str(tokens.get("id_token", "")), attempt, metadata)
        return self._name_of(claims), self._role_of(claims), identity_of(str(metadata["issuer"]), claims["sub"])

    async def _verified(self, token: str, attempt: Attempt, metadata: Mapping[str, Any]) -> Mapping[str, Any]:
        keys = KeySet.import_key_set(await self._json("GET", metadata["jwks_uri"]))  # type: ignore[arg-type]
        try:
            decoded = jwt.decode(token, keys, algorithms=list(ALGORITHMS))
            registry = jwt.JWTClaimsRegistry(
                leeway=LEEWAY_S,
                iss={"essential": True, "value": metadata["issuer"]},
                aud={"essential": True, "value": self.settings.console_oidc_client_id},
                sub={"essential": True},
                exp={"essential": True},
                iat={"essential": True},
                nonce={"essential": True, "value": attempt.nonce},
            )
            registry.validate(decoded.claims)
        except ClaimError as error:
            raise OidcError(f"the ID token's claim {error.claim} is missing, past, or not what was asked for") from None
        except (JoseError, ValueError):
            raise OidcError("the ID token is not signed with a key of the provider's, or cannot be read") from None
        audience = decoded.claims["aud"]
        if isinstance(audience, list) and len(audience) > 1 and decoded.claims.get("azp") != self.client_id:
            raise OidcError("the ID token is for another client too")
        # OpenID Connect Core §2: what a provider never gives to another. It is kept with what they propose and decide.
        subject = decoded.claims["sub"]
        if not isinstance(subject, str) or len(subject) > SUBJECT_CHARS_MAX or not subject.isprintable():
            raise OidcError("the ID token's subject is none")
        return decoded.claims

    @property
    def client_id(self) -> str:
        """Who the console is to the provider."""
        return self.settings.console_oidc_client_id

    def _name_of(self, claims: Mapping[str, Any]) -> str:
        name = claims.get(self.settings.console_oidc_name_claim)
        if not isinstance(name, str):
            raise OidcError("the ID token names nobody")
        return name

    def _role_of(self, claims: Mapping[str, Any]) -> ConsoleRole:
        given = claims.get(self.settings.console_oidc_roles_claim)
        held = {r for r in ConsoleRole if isinstance(given, list) and _ROLE_PREFIX + r.value in given}
        if not held:
            raise OidcError("the ID token gives no role")
        # They are declared from the least to the most.
        return max(held, key=list(ConsoleRole).index)

    async def _discover(self) -> Mapping[str, Any]:
        if self._metadata is None:
            issuer = str(self.settings.console_oidc_issuer)
            found = await self._json("GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
            needed = ("authorization_endpoint", "token_endpoint", "jwks_uri")
            # OpenID Connect Discovery §4.3: it must be exactly the issuer that was asked.
            if found.get("issuer") != issuer or not all(isinstance(found.get(n), str) for n in needed):
                raise OidcError("the provider's metadata is not its own, or incomplete")
            self._metadata = found
        return self._metadata

    async def _json(self, method: str, url: str, **asked: Any) -> dict[str, Any]:
        try:
            async with self.http.request(
                method, url, timeout=aiohttp.ClientTimeout(total=TIMEOUT_S), allow_redirects=False, **asked
            ) as response:
                body = b""
                async for chunk in response.content.iter_chunked(65_536):
                    body += chunk
                    if len(body) > _ANSWER_BYTES_MAX:
                        raise OidcError("the provider's answer is too long")
                if response.status != 200:
                    raise OidcError(f"the provider answered {response.status}")
        except TimeoutError:
            raise OidcError(f"the provider did not answer within {TIMEOUT_S:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise OidcError(f"the provider cannot be asked: {why_unasked(error)}") from None
        return _object(body)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        raise OidcError("the provider's answer is no JSON") from None
    if not isinstance(found, dict):
        raise OidcError("the provider's answer is no object")
    return found
