"""Identity providers' assertions: compact JWS, verified against the trust table's keys.

How every refusal is told, in the order in which the rules are applied:

====== ========================================================================================================
DS0B   longer than :data:`schemas.assertions.ASSERTION_CHARS_MAX`; not three parts of canonical base64url; header or
       claims not a JSON object, or with a member given twice; any ``crit`` (none is understood); no ``typ``, or
       that of another kind of token; an ``alg`` that is not ES256 or Ed25519 (``none`` and HMAC never are); no ``kid``
DS0F   ``iss`` is not in the trust table
DS0B   ``alg`` is not one that the trust table allows this provider
DS0E   the provider has no key of this ``kid``, or the key cannot be used
DS0C   the key is revoked
DS0D   now lies outside the key's validity
DS0B   ``alg`` is not the key's algorithm
DS17   the signature does not match
DS0B   a claim is missing or wrong; names it
====== ========================================================================================================

Keys come from the trust table alone: header members that bring a key or its address (jwk, jku, x5c, x5u) are ignored.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any, Final

from pydantic import ValidationError

from gateway.identity.assurance import Assertion, Issuer
from gateway.identity.jose import base64url
from gateway.identity.jose.jwk import ALGORITHMS, KeyFormatError, Verify, import_verifier
from gateway.identity.rules import UNKNOWN_ISSUER
from gateway.identity.store import IssuerKey, TrustTable
from schemas.assertions import ASSERTION_CHARS_MAX, ASSERTION_TYPE, AssertionClaims, ConsentLink, PaymentLink
from schemas.codec import parse_strictly
from schemas.primitives import Money
from schemas.reasons import Reason, ReasonCode

HEADERS_KEPT: Final = 1024
"""A provider sends one header per key; each takes about 300 bytes."""

KID_CHARS_MAX: Final = 256

_TYPES: Final = frozenset((ASSERTION_TYPE, f"application/{ASSERTION_TYPE}"))
_CLAIM_NAMES: Final = frozenset(
    name for model in (AssertionClaims, PaymentLink, ConsentLink, Money) for name in model.model_fields
)
"""Only these are told: any other name was chosen by whoever wrote the assertion."""

_REFUSED: Final[Mapping[str, Reason]] = {
    rule: Reason(code=code, text=text)
    for rule, code, text in (
        ("format", ReasonCode.DS0B, "authentication is not a compact JWS"),
        ("size", ReasonCode.DS0B, f"authentication is longer than {ASSERTION_CHARS_MAX} characters"),
        ("crit", ReasonCode.DS0B, "assertion header has crit, and no extension is understood"),
        ("typ", ReasonCode.DS0B, f"assertion header typ must be {ASSERTION_TYPE}"),
        ("alg", ReasonCode.DS0B, "assertion algorithm is not allowed: use ES256 or Ed25519"),
        ("kid", ReasonCode.DS0B, "assertion header must have a kid"),
        ("issuer_alg", ReasonCode.DS0B, "assertion algorithm is not allowed for its issuer"),
        ("unknown", ReasonCode.DS0E, "assertion key is not in its issuer's key set"),
        ("unusable", ReasonCode.DS0E, "assertion key cannot be used"),
        ("revoked", ReasonCode.DS0C, "assertion key is revoked"),
        ("validity", ReasonCode.DS0D, "assertion key is outside its validity"),
        ("key_alg", ReasonCode.DS0B, "assertion algorithm is not its key's"),
        ("bytes", ReasonCode.DS17, "assertion signature does not match"),
    )
} | {"issuer": UNKNOWN_ISSUER}


class _RefusedError(Exception):
    """A rule of the table was broken; never leaves this module."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


@dataclass(frozen=True, slots=True)
class _Header:
    algorithm: str
    kid: str


@dataclass(frozen=True, slots=True)
class _Parsed:
    """A provider's key, ready to verify with; ``record`` tells when the trust table has replaced it."""

    record: IssuerKey
    verify: Verify


class JwsAssertionVerifier:
    """Implements :class:`gateway.identity.store.AssertionVerifier` over a trust table.

    CPU only: about 95 µs for ES256.
    """

    def __init__(self, trust: TrustTable) -> None:
        self._trust = trust
        self._parsed: dict[tuple[str, str], _Parsed] = {}

    def verify(self, token: str, now: datetime) -> Assertion | Reason:
        return self._told(token, partial(self._verify, now=now))

    def recheck(self, issuer: str, kid: str) -> Reason | None:
        record = self._trust.key(issuer, kid)
        if record is None:
            return _REFUSED["unknown"]
        return _REFUSED["revoked"] if record.revoked else None

    def _told(self, token: str, read: Callable[[str], Assertion]) -> Assertion | Reason:
        try:
            return read(token)
        except _RefusedError as refused:
            return _REFUSED[refused.rule]
        except ValidationError as error:
            return Reason(code=ReasonCode.DS0B, text=_wrong_claim(error))

    def _verify(self, token: str, now: datetime) -> Assertion:
        if len(token) > ASSERTION_CHARS_MAX:
            raise _RefusedError("size")
        parts = token.split(".")
        if len(parts) != 3 or not token.isascii():
            raise _RefusedError("format")
        header = _read_header(parts[0])
        raw = _decoded(parts[1])
        plain = AssertionClaims.of_plain(raw)
        claims = {"iss": plain.iss} if plain is not None else _read_object(raw)
        claimed = claims.get("iss")
        issuer = self._trust.issuer(claimed) if isinstance(claimed, str) else None
        if issuer is None:
            raise _RefusedError("issuer")
        verify = self._usable_key(header, issuer, now)
        signed = token[: len(parts[0]) + 1 + len(parts[1])].encode()
        if not verify(signed, _decoded(parts[2])):
            raise _RefusedError("bytes")
        return _assertion(plain or AssertionClaims.__pydantic_validator__.validate_python(claims), header.kid)

    def _usable_key(self, header: _Header, issuer: Issuer, now: datetime) -> Verify:
        if header.algorithm not in issuer.algorithms:
            raise _RefusedError("issuer_alg")
        record = self._trust.key(issuer.issuer, header.kid)
        if record is None:
            raise _RefusedError("unknown")
        if record.revoked:
            raise _RefusedError("revoked")
        if (record.valid_from is not None and now < record.valid_from) or (
            record.valid_until is not None and now >= record.valid_until
        ):
            raise _RefusedError("validity")
        if ALGORITHMS.get(record.algorithm) != header.algorithm:
            raise _RefusedError("key_alg")
        parsed = self._parsed.get((record.issuer, record.kid))
        if parsed is None or parsed.record is not record:
            try:
                parsed = _Parsed(record, import_verifier(record.jwk, record.algorithm))
            except KeyFormatError:
                raise _RefusedError("unusable") from None
            self._parsed[record.issuer, record.kid] = parsed
        return parsed.verify


def _assertion(claims: AssertionClaims, kid: str) -> Assertion:
    return Assertion(
        issuer=claims.iss,
        subject=claims.sub,
        audience=claims.aud,
        issued_at=_time(claims.iat),
        not_before=None if claims.nbf is None else _time(claims.nbf),
        expires_at=_time(claims.exp),
        authenticated_at=_time(claims.auth_time),
        jti=claims.jti,
        level_name=claims.acr,
        methods=claims.amr,
        link=claims.mypay_link,
        kid=kid,
    )


def _wrong_claim(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    known = [str(part) for part in first["loc"] if part in _CLAIM_NAMES]
    if first["type"] == "extra_forbidden":
        return f"assertion claim {'.'.join(known)} has a member that is not known"
    return f"assertion claim {'.'.join(known)} is {'missing' if first['type'] == 'missing' else 'wrong'}"


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


# Refused headers raise and so are not kept.
@lru_cache(maxsize=HEADERS_KEPT)
def _read_header(text: str) -> _Header:
    header = _read_object(_decoded(text))
    if "crit" in header:
        raise _RefusedError("crit")
    typ = header.get("typ")
    if not isinstance(typ, str) or typ.lower() not in _TYPES:
        raise _RefusedError("typ")
    alg = header.get("alg")
    algorithm = ALGORITHMS.get(alg) if isinstance(alg, str) else None
    if algorithm is None:
        raise _RefusedError("alg")
    kid = header.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= KID_CHARS_MAX:
        raise _RefusedError("kid")
    return _Header(algorithm, kid)


def _decoded(text: str) -> bytes:
    try:
        return base64url.decode(text)
    except ValueError:
        raise _RefusedError("format") from None


def _read_object(raw: bytes) -> dict[str, Any]:
    try:
        value = parse_strictly(raw)
    except ValueError:
        raise _RefusedError("format") from None
    if not isinstance(value, dict):
        raise _RefusedError("format")
    return value
