"""The simulated identity providers of both groups over HTTP, on the loopback address only.

- ``GET /{group}/jwks.json`` → the key set (RFC 7517), with an ETag
- ``GET /{group}/.well-known/openid-configuration`` → ``{"issuer", "jwks_uri", "acr_values_supported", …}``
- ``POST /{group}/assertions`` with ``{"subject", "link"}`` and optionally ``acr``, ``amr``, ``auth_time`` (RFC 3339),
  ``lifetime_seconds``, ``jti`` → ``{"assertion", "kid", "expires_in"}``
- ``POST /{group}/rotate`` → ``{"kid", "published"}``: signs with a new key, the old one stays published
- ``DELETE /{group}/keys/{kid}`` → ``{"kid", "published"}``: withdrawn from the key set

Errors are ``{"error": "…"}`` with 400 (bad JSON or a wrong field) or 404 (no such group or key).
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from gateway.proving.counterparts.http import LoopbackServer, checked, http_error
from gateway.proving.counterparts.idp.provider import LEVELS, LIFETIME, Group, IdentityProvider, UnknownKeyError
from schemas.assertions import Link
from schemas.primitives import UtcTime


class _Wanted(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    subject: Annotated[str, Field(min_length=1, max_length=255)]
    link: Annotated[Link, Field(discriminator="kind")]
    acr: str | None = None
    amr: Annotated[list[str], Field(min_length=1)] = ["pin", "hwk"]
    auth_time: UtcTime | None = None
    lifetime_seconds: Annotated[int, Field(ge=1, le=86_400)] = LIFETIME // timedelta(seconds=1)
    jti: str | None = None


class IdpServer(LoopbackServer):
    """Serves one provider a group."""

    def __init__(self, providers: Mapping[Group, IdentityProvider]) -> None:
        self.providers = providers
        self.jwks_requests = 0
        super().__init__(
            [
                web.get("/{group}/jwks.json", self._jwks),
                web.get("/{group}/.well-known/openid-configuration", self._configuration),
                web.post("/{group}/assertions", self._issue),
                web.post("/{group}/rotate", self._rotate),
                web.delete("/{group}/keys/{kid}", self._withdraw),
            ]
        )

    async def _jwks(self, request: web.Request) -> web.StreamResponse:
        self.jwks_requests += 1
        text = json.dumps(self._provider(request).jwks())
        etag = hashlib.sha256(text.encode()).hexdigest()[:32]
        if any(given.value == etag for given in request.if_none_match or ()):
            return web.Response(status=304, headers={"ETag": f'"{etag}"'})
        return web.Response(text=text, content_type="application/jwk-set+json", headers={"ETag": f'"{etag}"'})

    async def _configuration(self, request: web.Request) -> web.Response:
        provider = self._provider(request)
        return web.json_response(
            {
                "issuer": provider.issuer,
                "jwks_uri": f"{request.scheme}://{request.host}/{provider.group}/jwks.json",
                "acr_values_supported": list(LEVELS[provider.group]),
                "id_token_signing_alg_values_supported": [provider.algorithm],
            }
        )

    async def _issue(self, request: web.Request) -> web.Response:
        provider = self._provider(request)
        wanted = checked(_Wanted, await request.read())
        assertion = provider.issue(
            wanted.subject,
            wanted.link,
            acr=wanted.acr,
            amr=wanted.amr,
            auth_time=wanted.auth_time,
            lifetime=timedelta(seconds=wanted.lifetime_seconds),
            jti=wanted.jti,
        )
        return web.json_response({"assertion": assertion, "kid": provider.kid, "expires_in": wanted.lifetime_seconds})

    async def _rotate(self, request: web.Request) -> web.Response:
        provider = self._provider(request)
        provider.rotate()
        return web.json_response({"kid": provider.kid, "published": provider.published})

    async def _withdraw(self, request: web.Request) -> web.Response:
        provider = self._provider(request)
        try:
            provider.withdraw(request.match_info["kid"])
        except UnknownKeyError:
            raise http_error(web.HTTPNotFound, "no published key has this kid") from None
        return web.json_response({"kid": provider.kid, "published": provider.published})

    def _provider(self, request: web.Request) -> IdentityProvider:
        for group, provider in self.providers.items():
            if group == request.match_info["group"]:
                return provider
        raise http_error(web.HTTPNotFound, "the group is financial or telecom")
