"""Partners' detached signatures: JWS over the raw body (RFC 7515 appendix F, RFC 7797 ``b64: false``).

The header text is ``protected..signature``. What is signed is ``protected "." body``, so both are covered to the byte.
ES256 is cryptography's, Ed25519 libsodium's, header rules joserfc's. Partners send the same protected header with every
message, so what follows from it alone is worked out once per header text and kept (bounded, least recently used goes).

Who signed follows from the key alone: the header's kid names it, the registry knows its owner. The body is not read.

Why nobody is known to have signed, in the order in which the rules are applied:

====== ========================================================================================================
DS0B   no signature; not ``protected..signature``; not base64url of JSON in UTF-8; a member other than alg, kid, typ,
       b64 and crit; alg not on the allow-list (``none`` and HMAC never are); b64 not false; crit not ``["b64"]``
DS0E   no registered key has this kid, or the registered key cannot be used
AG01   the key's owner is no active partner
DS0D   the key is not valid yet
DS0B   alg is not the registered key's algorithm
DS17   typ is not this message's type: a signature made for one kind of message does not sign another
DS17   the signature does not match the bytes
====== ========================================================================================================

A signature that holds is the owner's, but vouches for nothing new (:attr:`gateway.identity.signing.Signed.lapsed`)
where the key was disabled (DS0C: whoever stole it may have written this) or its time is over (DS0D).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from joserfc.errors import JoseError
from joserfc.jws import default_registry

from gateway.directory.partners import PartnerKey
from gateway.identity.jose import base64url
from gateway.identity.jose.jwk import ALGORITHMS, KeyFormatError, Verify, import_verifier
from gateway.identity.signing import KeySource, Signed
from schemas.codec import parse_strictly
from schemas.reasons import Reason, ReasonCode

SIGNATURE_CHARS_MAX: Final = 1024
"""A header with a 256-character kid and typ, and an ES256 or Ed25519 signature, takes about 900 characters."""

PROTECTED_HEADERS_KEPT: Final = 4096
"""One entry a partner key and message type: room for some thousand partners at about 1 KiB each."""

_MEMBERS: Final = frozenset(("alg", "kid", "typ", "b64", "crit"))
_REFUSED: Final[Mapping[str, Reason]] = {
    rule: Reason(code=code, text=text)
    for rule, code, text in (
        ("missing", ReasonCode.DS0B, "header signature is missing"),
        ("format", ReasonCode.DS0B, "signature is not a detached JWS"),
        ("members", ReasonCode.DS0B, "signature header must have exactly the members alg, kid, typ, b64 and crit"),
        ("alg", ReasonCode.DS0B, "signature algorithm is not allowed: use ES256 or Ed25519"),
        ("b64", ReasonCode.DS0B, 'signature header must have b64 false and crit ["b64"]'),
        ("unknown", ReasonCode.DS0E, "signing key is not registered"),
        ("unusable", ReasonCode.DS0E, "the registered signing key cannot be used"),
        ("disabled", ReasonCode.DS0C, "signing key is disabled"),
        ("inactive", ReasonCode.AG01, "the partner is no longer active"),
        ("early", ReasonCode.DS0D, "signing key is not valid yet"),
        ("over", ReasonCode.DS0D, "signing key is valid no more"),
        ("key_alg", ReasonCode.DS0B, "signature algorithm is not the registered key's"),
        ("typ", ReasonCode.DS17, "signature was made for another message type"),
        ("bytes", ReasonCode.DS17, "signature does not match the body"),
        ("der", ReasonCode.DS0B, "ES256 signature is DER: JWS wants r and s, 32 bytes each (RFC 7518 section 3.4)"),
    )
}


class _RefusedError(Exception):
    """A rule of the table was broken; never leaves this module."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


@dataclass(frozen=True, slots=True)
class _Protected:
    """What a protected header says, once it has passed every rule that needs no key."""

    algorithm: str
    kid: str
    typ: str


@dataclass(frozen=True, slots=True)
class _Parsed:
    """A registered key, ready to verify with; ``record`` tells when the registry has replaced it."""

    record: PartnerKey
    verify: Verify


def _is_der(algorithm: str, signature: bytes) -> bool:
    """True for what most libraries make of ECDSA unless told otherwise: a SEQUENCE of r and s."""
    if algorithm != "ES256":
        return False
    try:
        decode_dss_signature(signature)
    except ValueError:
        return False
    return True


class JwsVerifier:
    """Implements :class:`gateway.identity.signing.SignatureVerifier` over the registered keys.

    CPU only: about 90 µs for ES256, 60 µs for Ed25519.
    """

    def __init__(self, keys: KeySource) -> None:
        self._keys = keys
        self._parsed: dict[str, _Parsed] = {}

    def authenticate(self, *, body: bytes, signature: str | None, type_: str | None, now: datetime) -> Signed | Reason:
        try:
            record = self._verify(body, signature, type_, now)
        except _RefusedError as refused:
            return _REFUSED[refused.rule]
        lapsed = None
        if record.disabled_at is not None and record.disabled_at <= now:
            lapsed = _REFUSED["disabled"]
        elif record.valid_until is not None and now >= record.valid_until:
            lapsed = _REFUSED["over"]
        return Signed(record.partner_id, lapsed)

    def recheck(self, *, signature: str | None, now: datetime) -> Reason | None:
        try:
            record = self._keys.key(_read_protected((signature or "").partition(".")[0]).kid)
        except _RefusedError as refused:
            return _REFUSED[refused.rule]
        if record is None:
            return _REFUSED["unknown"]
        if record.disabled_at is not None and record.disabled_at <= now:
            return _REFUSED["disabled"]
        return None if self._keys.partner_exists(record.partner_id) else _REFUSED["inactive"]

    def _verify(self, body: bytes, signature: str | None, type_: str | None, now: datetime) -> PartnerKey:
        if signature is None:
            raise _RefusedError("missing")
        protected_text, _, rest = signature.partition(".")
        payload_text, _, signature_text = rest.partition(".")
        if len(signature) > SIGNATURE_CHARS_MAX or payload_text or not signature.isascii():
            raise _RefusedError("format")
        protected = _read_protected(protected_text)
        parsed = self._usable_key(protected, now)
        if type_ is not None and protected.typ != type_:
            raise _RefusedError("typ")
        try:
            raw_signature = base64url.decode(signature_text)
        except ValueError:
            raise _RefusedError("format") from None
        if not parsed.verify(protected_text.encode() + b"." + body, raw_signature):
            raise _RefusedError("der" if _is_der(protected.algorithm, raw_signature) else "bytes")
        return parsed.record

    def _usable_key(self, protected: _Protected, now: datetime) -> _Parsed:
        record = self._keys.key(protected.kid)
        if record is None:
            raise _RefusedError("unknown")
        if not self._keys.partner_exists(record.partner_id):
            raise _RefusedError("inactive")
        if now < record.valid_from:
            raise _RefusedError("early")
        if ALGORITHMS.get(record.algorithm) != protected.algorithm:
            raise _RefusedError("key_alg")
        parsed = self._parsed.get(record.kid)
        if parsed is None or parsed.record is not record:
            try:
                parsed = _Parsed(record, import_verifier(record.jwk, record.algorithm))
            except KeyFormatError:
                raise _RefusedError("unusable") from None
            self._parsed[record.kid] = parsed
        return parsed


# Refused headers raise and so are not kept: junk cannot push the partners' headers out.
@lru_cache(maxsize=PROTECTED_HEADERS_KEPT)
def _read_protected(text: str) -> _Protected:
    try:
        header = parse_strictly(base64url.decode(text))
    except ValueError:
        raise _RefusedError("format") from None
    if not isinstance(header, dict):
        raise _RefusedError("format")
    if header.keys() != _MEMBERS:
        raise _RefusedError("members")
    algorithm = ALGORITHMS.get(header["alg"]) if isinstance(header["alg"], str) else None
    if algorithm is None:
        raise _RefusedError("alg")
    if header["b64"] is not False or header["crit"] != ["b64"]:
        raise _RefusedError("b64")
    try:
        default_registry.check_header(header)
    except JoseError:
        raise _RefusedError("format") from None
    return _Protected(algorithm, header["kid"], header["typ"])
