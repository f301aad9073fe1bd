"""Signing keys: making them, their public JWK (RFC 7517, RFC 8037), and private keys in files.

Only two kinds exist here: ES256 (P-256) and Ed25519. A public JWK holds ``kty``, ``crv``, ``x`` (and ``y``) alone.
"""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey
from nacl.bindings import crypto_sign_BYTES, crypto_sign_open
from nacl.exceptions import BadSignatureError

from gateway.sealing.files import read_secret_file, write_secret_file

PrivateKey = EllipticCurvePrivateKey | Ed25519PrivateKey

Verify = Callable[[bytes, bytes], bool]
"""Tells whether a JWS signature (RFC 7518 §3.4: r and s of 32 bytes each; RFC 8037 §3.1) is of what was signed:
``verify(signed, signature)``."""

ALGORITHMS: Final[Mapping[str, str]] = {"ES256": "ES256", "Ed25519": "Ed25519", "EdDSA": "Ed25519"}
"""Allowed ``alg`` → the algorithm meant. ``EdDSA`` is RFC 8037's name, which RFC 9864 replaced by ``Ed25519``."""

_CURVES: Final = {"ES256": ("EC", "P-256"), "Ed25519": ("OKP", "Ed25519")}
_PUBLIC_MEMBERS: Final = ("kty", "crv", "x", "y")
_ED25519_PRIME: Final = 2**255 - 19
_ED25519_ORDER_8: Final = 2707385501144840649318225287225658788936804267575313519463743609750303402022
_ED25519_SMALL_ORDER: Final = frozenset((0, 1, _ED25519_PRIME - 1, _ED25519_ORDER_8, _ED25519_PRIME - _ED25519_ORDER_8))
"""The y of every point of order 1, 2, 4 and 8."""

_ES256: Final = ECDSA(SHA256())
_ES256_HALF: Final = 32


class KeyFormatError(ValueError):
    """The key is not one that this algorithm takes. The text holds nothing of the key."""


def generate_key(algorithm: str) -> tuple[PrivateKey, dict[str, str]]:
    """Make a key pair for ``ES256`` or ``Ed25519``: the private key and the public JWK to register.

    Raises:
        KeyFormatError: another algorithm.
    """
    private: PrivateKey
    private = generate_private_key(SECP256R1()) if _known(algorithm) == "ES256" else Ed25519PrivateKey.generate()
    return private, public_jwk(private)


def public_jwk(key: PrivateKey) -> dict[str, str]:
    """Return the public JWK of a private key."""
    wrapped = ECKey.import_key(key) if isinstance(key, EllipticCurvePrivateKey) else OKPKey.import_key(key)
    members = wrapped.as_dict(private=False)
    return {name: str(members[name]) for name in _PUBLIC_MEMBERS if name in members}


def algorithm_of(key: PrivateKey) -> str:
    """``ES256`` or ``Ed25519``: what a private key signs with.

    Raises:
        KeyFormatError: an elliptic curve other than P-256.
    """
    match key:
        case Ed25519PrivateKey():
            return "Ed25519"
        case EllipticCurvePrivateKey() if isinstance(key.curve, SECP256R1):
            return "ES256"
        case _:
            raise KeyFormatError("a signing key must be P-256 or Ed25519")


def import_public(jwk: Mapping[str, Any], algorithm: str) -> Any:
    """Read a registered public JWK as joserfc's key object.

    Raises:
        KeyFormatError: unknown algorithm, wrong type or curve, a private member, meant for something else (``use``,
            ``key_ops``, ``alg``: RFC 7517 §4.2 to 4.4), not a point on the curve, or one of small order.
    """
    kind, curve = _CURVES[_known(algorithm)]
    if jwk.get("kty") != kind or jwk.get("crv") != curve:
        raise KeyFormatError(f"a key for {algorithm} must be of type {kind} and curve {curve}")
    if "d" in jwk:
        raise KeyFormatError("a registered key must be public: it has the private member d")
    _check_purpose(jwk, algorithm)
    members = {name: jwk[name] for name in _PUBLIC_MEMBERS if name in jwk}
    try:
        key = ECKey.import_key(members) if kind == "EC" else OKPKey.import_key(members)
    except (JoseError, ValueError, TypeError, KeyError):
        raise KeyFormatError(f"the key is not a valid {curve} public key") from None
    if isinstance(key.public_key, Ed25519PublicKey):
        _check_order(key.public_key.public_bytes_raw())
    return key


def _check_purpose(jwk: Mapping[str, Any], algorithm: str) -> None:
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig":
        raise KeyFormatError("the key's use must be sig, or left out")
    if not isinstance(operations, list) or "verify" not in operations:
        raise KeyFormatError("the key's key_ops must hold verify, or be left out")
    alg = jwk.get("alg", algorithm)
    if not isinstance(alg, str) or ALGORITHMS.get(alg) != ALGORITHMS[algorithm]:
        raise KeyFormatError(f"the key's alg must be {ALGORITHMS[algorithm]}, or left out")


def _check_order(point: bytes) -> None:
    """Refuse points under which signatures can be made without a private key (RFC 8032 §5.1.7, RFC 7748 §6).

    Libraries differ on whether they take them, and on spellings above the field's prime.
    """
    y = int.from_bytes(point, "little") & ((1 << 255) - 1)
    if y >= _ED25519_PRIME:
        raise KeyFormatError("the key is not spelt in the one way of its point")
    if y in _ED25519_SMALL_ORDER:
        raise KeyFormatError("the key is a point of small order: anybody could sign for it")


def import_verifier(jwk: Mapping[str, Any], algorithm: str) -> Verify:
    """Prepare a registered public JWK for many signatures: what can be done once per key is done here.

    Raises:
        KeyFormatError: as :func:`import_public`.
    """
    key = import_public(jwk, algorithm).public_key
    if isinstance(key, EllipticCurvePublicKey):
        return partial(_verify_es256, key)
    return partial(_verify_ed25519, key.public_bytes_raw())


def _verify_es256(key: EllipticCurvePublicKey, signed: bytes, signature: bytes) -> bool:
    if len(signature) != 2 * _ES256_HALF:
        return False
    r, s = signature[:_ES256_HALF], signature[_ES256_HALF:]
    try:
        key.verify(encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big")), signed, _ES256)
    except InvalidSignature:
        return False
    return True


def _verify_ed25519(point: bytes, signed: bytes, signature: bytes) -> bool:
    """By libsodium, which takes half of OpenSSL's processor time: 60 µs for 120."""
    # It reads the signature's bytes and what was signed from one place: of another length one would pass for the other.
    if len(signature) != crypto_sign_BYTES:
        return False
    try:
        crypto_sign_open(signature + signed, point)
    except BadSignatureError:
        return False
    return True


def import_private(key: PrivateKey, algorithm: str) -> Any:
    """Wrap a private key as joserfc's key object.

    Raises:
        KeyFormatError: the key is not one for this algorithm.
    """
    if algorithm_of(key) != _known(algorithm):
        raise KeyFormatError(f"the private key is not one for {algorithm}")
    return ECKey.import_key(key) if isinstance(key, EllipticCurvePrivateKey) else OKPKey.import_key(key)


def write_private_key(path: Path, key: PrivateKey) -> None:
    """Write PEM PKCS #8 into a new file that only its owner can read (0600).

    Raises:
        FileExistsError: a key is never overwritten.
    """
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_secret_file(path, pem)


def read_private_key(path: Path) -> PrivateKey:
    """Read what :func:`write_private_key` wrote, or any unencrypted PEM of a P-256 or Ed25519 private key.

    Raises:
        SecretFileError: missing, too large, or readable by everybody.
        KeyFormatError: not such a key.
    """
    try:
        key = serialization.load_pem_private_key(read_secret_file(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyFormatError(f"{os.fspath(path)} is not an unencrypted PEM key") from None
    if not isinstance(key, EllipticCurvePrivateKey | Ed25519PrivateKey):
        raise KeyFormatError("a signing key must be P-256 or Ed25519")
    algorithm_of(key)
    return key


def _known(algorithm: str) -> str:
    name = ALGORITHMS.get(algorithm)
    if name is None:
        raise KeyFormatError("the algorithm must be ES256 or Ed25519")
    return name
