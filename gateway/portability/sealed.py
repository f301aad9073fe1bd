"""Chunks as JWE to a recipient's key, and the receipt as a JWS of the gateway's (RFC 7515, 7516, 7518)."""

from collections.abc import Mapping
from typing import Any, Final

from joserfc import jwe, jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey

from gateway.base.garbage_collection import collect_young
from gateway.identity.jose import base64url
from gateway.identity.jose.jwk import KeyFormatError
from schemas.codec import decode
from schemas.portability import ExportManifest

RECEIPT_TYPE: Final = "mypay-export-receipt"
CHUNK_TYPE: Final = "mypay-export-chunk"

BYTES_MAX: Final = 1024 * 1024
"""The topic's limit; the library's own are for tokens."""


class _Jwe(jwe.JWERegistry):
    max_ciphertext_length = BYTES_MAX


class _Jws(jws.JWSRegistry):
    max_payload_length = BYTES_MAX


_JWE: Final = _Jwe(algorithms=["ECDH-ES", "A256GCM"])
_JWS: Final = _Jws(algorithms=["ES256", "Ed25519"])
_CURVES: Final[Mapping[str, type[ECKey] | type[OKPKey]]] = {"P-256": ECKey, "X25519": OKPKey}
_PUBLIC: Final = ("kty", "crv", "x", "y")


def import_recipient_key(jwk: Mapping[str, Any]) -> Any:
    """Read a public key for encryption: P-256 or X25519.

    Raises:
        KeyFormatError: it is another, is not public, is meant for something else, or no point on its curve.
    """
    kind = _CURVES.get(str(jwk.get("crv")))
    if kind is None:
        raise KeyFormatError("a key to encrypt to must be on curve P-256 or X25519")
    if "d" in jwk:
        raise KeyFormatError("a registered key must be public: it has the private member d")
    if jwk.get("use", "enc") != "enc":
        raise KeyFormatError("the key's use must be enc, or left out")
    try:
        return kind.import_key({name: str(jwk[name]) for name in _PUBLIC if name in jwk})
    except (JoseError, ValueError, TypeError, KeyError):
        raise KeyFormatError("the key is not a valid public key") from None


def seal(content: bytes, key: Any, kid: str) -> str:
    """Encrypt a chunk: a compact JWE with an ephemeral key of its own."""
    header = {"alg": "ECDH-ES", "enc": "A256GCM", "kid": kid, "typ": CHUNK_TYPE, "cty": "json"}
    sealed = jwe.encrypt_compact(header, content, key, registry=_JWE)
    # The library's message and its recipient hold each other, and the message all of the chunk. A stage looks for such
    # cycles so rarely that hundreds of chunks would lie there.
    collect_young()
    return sealed


def unseal(sealed: str, key: Any) -> bytes:
    """Decrypt a chunk; for recipients.

    Raises:
        JoseError, ValueError: it is not for this key, or was changed.
    """
    opened = jwe.decrypt_compact(sealed, key, registry=_JWE)
    if opened.plaintext is None:
        raise ValueError("the chunk holds nothing")
    return opened.plaintext


def sign_receipt(manifest: bytes, key: Any, *, kid: str, algorithm: str) -> str:
    """Sign a manifest: a compact JWS whose payload it is."""
    return jws.serialize_compact({"alg": algorithm, "kid": kid, "typ": RECEIPT_TYPE}, manifest, key, registry=_JWS)


def open_receipt(receipt: str, key: Any) -> bytes:
    """The manifest that a receipt signs; for recipients.

    Raises:
        JoseError, ValueError: the signature is not the gateway's, or it signs something else.
    """
    opened = jws.deserialize_compact(receipt, key, registry=_JWS)
    if opened.headers().get("typ") != RECEIPT_TYPE:
        raise ValueError("this is no receipt of an export")
    return opened.payload


def manifest_of(receipt: str) -> ExportManifest:
    """What a receipt of the gateway's own says; its signature is not looked at."""
    payload = base64url.decode(receipt.split(".")[1])
    return decode(ExportManifest, payload, bytes_max=BYTES_MAX, trusted=True)
