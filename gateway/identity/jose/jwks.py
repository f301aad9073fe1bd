"""An identity provider's key set: JWK Set (RFC 7517) from a file or over HTTPS, bounded in size and time.

Of each key ``nbf``, ``exp`` and ``revoked`` are honoured where the provider writes them (OpenID Federation 1.0 §8.7).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import aiohttp

from gateway.base.loopback import is_private_way
from gateway.base.unasked import why_unasked
from gateway.identity.jose.jwk import import_public
from gateway.identity.store import IssuerKey
from schemas.assertions import EPOCH_SECONDS_MAX
from schemas.codec import parse_strictly

JWKS_BYTES_MAX: Final = 64 * 1024
"""About two hundred keys; a provider publishes a handful."""

FETCH_SECONDS_MAX: Final = 3.0
"""From connecting to the last byte: a provider that is slower is treated as away."""

_CURVE_ALGORITHMS: Final = {("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "Ed25519"}
_PUBLIC_MEMBERS: Final = ("kty", "crv", "x", "y")


class KeySetError(Exception):
    """The key set could not be read. The text names the cause, never the content."""


@dataclass(frozen=True, slots=True)
class KeySet:
    """A provider's keys as last read.

    Attributes:
        keys: by kid, those that an assertion could be signed with.
        left_out: how many keys of the set cannot be used: of another kind, broken, without a kid or under one that is
            given twice, or not public. One such key must not keep the others from being refreshed and revoked.
        etag: lets the next read be answered "unchanged".
    """

    keys: Mapping[str, IssuerKey]
    left_out: int = 0
    etag: str | None = None


def check_url(url: str) -> str:
    """Return the URL if keys may be fetched from it: https, or plain http to this machine.

    Raises:
        ValueError: neither.
    """
    if is_private_way(url):
        return url
    raise ValueError("a key set's URL must be https (plain http only to the loopback address)")


def parse_jwks(content: bytes, issuer: str) -> KeySet:
    """Read a key set.

    Raises:
        KeySetError: not a JWK Set.
    """
    try:
        document = parse_strictly(content)
    except ValueError:
        raise KeySetError("it is not JSON with unique members") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise KeySetError("it is not a JWK Set")
    kids = [e["kid"] if isinstance(e.get("kid"), str) else "" for e in entries]
    given = Counter(kids)
    keys = [_key(e, issuer, kid) for e, kid in zip(entries, kids, strict=True) if kid and given[kid] == 1]
    usable = {k.kid: k for k in keys if k is not None}
    return KeySet(usable, left_out=len(entries) - len(usable))


def read_file(path: Path, issuer: str) -> KeySet:
    """Read a key set's file.

    Raises:
        KeySetError: missing, too large, or as :func:`parse_jwks`.
    """
    try:
        with path.open("rb") as file:
            content = file.read(JWKS_BYTES_MAX + 1)
    except OSError as error:
        raise KeySetError(f"{path.name}: {error.strerror}") from None
    _bounded(len(content))
    return parse_jwks(content, issuer)


async def fetch(session: aiohttp.ClientSession, url: str, issuer: str, known: KeySet | None) -> KeySet:
    """Fetch a key set; returns ``known`` itself when the provider says that nothing has changed.

    Redirects are not followed: the trust table names the address.

    Raises:
        KeySetError: no answer in time, another status than 200 or 304, too large, or as :func:`parse_jwks`.
    """
    headers = {"Accept": "application/jwk-set+json, application/json"}
    if known is not None and known.etag is not None:
        headers["If-None-Match"] = known.etag
    timeout = aiohttp.ClientTimeout(total=FETCH_SECONDS_MAX)
    try:
        async with session.get(url, headers=headers, timeout=timeout, allow_redirects=False) as response:
            if response.status == 304 and known is not None:
                return known
            if response.status != 200:
                raise KeySetError(f"the answer has status {response.status}")
            content = await _read_bounded(response)
            etag = response.headers.get("ETag")
    except TimeoutError:
        raise KeySetError(f"its server did not answer within {FETCH_SECONDS_MAX:g} s") from None
    except (aiohttp.ClientError, OSError) as error:
        raise KeySetError(f"it cannot be fetched: {why_unasked(error)}") from None
    return replace(parse_jwks(content, issuer), etag=etag)


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        _bounded(len(content))
    return bytes(content)


def _bounded(size: int) -> None:
    if size > JWKS_BYTES_MAX:
        raise KeySetError(f"it is larger than {JWKS_BYTES_MAX} bytes")


def _key(entry: Mapping[str, Any], issuer: str, kid: str) -> IssuerKey | None:
    kind, curve = entry.get("kty"), entry.get("crv")
    algorithm = _CURVE_ALGORITHMS.get((kind, curve)) if isinstance(kind, str) and isinstance(curve, str) else None
    if algorithm is None:
        return None
    try:
        import_public(entry, algorithm)
        valid_from, valid_until = _moment(entry, "nbf"), _moment(entry, "exp")
    except ValueError:  # includes KeyFormatError
        return None
    jwk = {name: entry[name] for name in _PUBLIC_MEMBERS if name in entry}
    return IssuerKey(
        issuer=issuer,
        kid=kid,
        algorithm=algorithm,
        jwk=jwk,
        valid_from=valid_from,
        valid_until=valid_until,
        revoked="revoked" in entry,
    )


def _moment(entry: Mapping[str, Any], name: str) -> datetime | None:
    seconds = entry.get(name)
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= EPOCH_SECONDS_MAX:
        raise ValueError(f"{name} is not a time")
    return datetime.fromtimestamp(seconds, UTC)
