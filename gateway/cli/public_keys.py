"""A partner's public key as partners send it: a JWK, a JWKS of one key, or PEM; what it is not is told in words."""

from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from joserfc.jwk import ECKey, OKPKey

from gateway.cli.arguments import is_key_id
from gateway.identity.jose.jwk import KeyFormatError, import_public
from schemas.codec import parse_strictly

_ALGORITHM_OF_CURVE: Final = {"P-256": "ES256", "Ed25519": "Ed25519"}
_KEPT: Final = ("kty", "crv", "x", "y")
_WANTED: Final = "a public key of curve P-256 or Ed25519, as a JWK, a JWKS of one key, or PEM"


PublicKey = tuple[dict[str, str], str, str | None]
"""As :func:`read_public_key` returns it."""


def read_public_key(data: bytes) -> PublicKey:
    """Read one public signing key.

    Returns:
        Its JWK with the public members alone, ``ES256`` or ``Ed25519``, and the id that it carries, if any.

    Raises:
        KeyFormatError: it is none; the text says what it is instead, and holds nothing of it.
    """
    text = data.strip()
    if text.startswith(b"-----BEGIN"):
        jwk = _of_pem(text)
    elif text.startswith(b"{"):
        jwk = _of_json(text)
    elif text.startswith(b"0\x82") or data[:1] == b"0":
        raise KeyFormatError(
            f"this is DER, a binary form: give {_WANTED} (`openssl pkey -pubin -inform DER` writes PEM)"
        )
    else:
        raise KeyFormatError(f"this is no key that can be read: give {_WANTED}")
    curve = jwk.get("crv")
    algorithm = _ALGORITHM_OF_CURVE.get(curve) if isinstance(curve, str) else None
    if algorithm is None:
        raise KeyFormatError(f"this is a key of another type or curve: give {_WANTED}")
    import_public(jwk, algorithm)
    kid = jwk.get("kid")
    if kid is not None and not (isinstance(kid, str) and is_key_id(kid)):
        raise KeyFormatError("the key's kid must be 1 to 128 letters, digits, dots, underscores and hyphens: use --kid")
    # Nothing but the public members is kept, whatever else stands there.
    return {name: jwk[name] for name in _KEPT if name in jwk}, algorithm, kid


def _of_json(text: bytes) -> dict[str, Any]:
    try:
        jwk = parse_strictly(text)
    except ValueError:
        raise KeyFormatError("the file begins like a JWK, but is not JSON in UTF-8 with unique members") from None
    if isinstance(jwk, dict) and "keys" in jwk:
        keys = jwk["keys"]
        if not isinstance(keys, list) or len(keys) != 1 or not isinstance(keys[0], dict):
            count = len(keys) if isinstance(keys, list) else "no list of"
            raise KeyFormatError(f"this is a JWKS with {count} keys: give the JWK of one of them")
        return dict(keys[0])
    return dict(jwk)


def _of_pem(text: bytes) -> dict[str, Any]:
    if b"PRIVATE KEY" in text:
        raise KeyFormatError("this is a private key, which must never leave the partner: give the public one")
    if b"CERTIFICATE" in text:
        raise KeyFormatError("this is a certificate: give its public key (`openssl x509 -pubkey -noout`)")
    try:
        key = serialization.load_pem_public_key(text)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyFormatError(f"this PEM cannot be read: give {_WANTED}") from None
    match key:
        case EllipticCurvePublicKey():
            return dict(ECKey.import_key(key).as_dict(private=False))
        case Ed25519PublicKey():
            return dict(OKPKey.import_key(key).as_dict(private=False))
        case _:
            raise KeyFormatError(f"this is a key of another type: give {_WANTED}")
