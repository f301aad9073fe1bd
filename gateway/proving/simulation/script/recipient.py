"""The keys of every world's recipient and of the gateway's receipts: the same in each, as all that decides there."""

import hashlib
from base64 import urlsafe_b64encode
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc.jwk import OKPKey

from gateway.portability.exporting import ReceiptKey
from gateway.portability.rules.records import Recipient, RecipientKey


def _b64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _key(name: str, curve: str) -> OKPKey:
    seed = hashlib.sha256(name.encode()).digest()
    kinds: dict[str, Any] = {"X25519": X25519PrivateKey, "Ed25519": Ed25519PrivateKey}
    public = kinds[curve].from_private_bytes(seed).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return OKPKey.import_key({"kty": "OKP", "crv": curve, "x": _b64(public), "d": _b64(seed)})


KIDS: Final = ("recipient-1", "recipient-2")
PRIVATE_KEYS: Final = {kid: _key(kid, "X25519") for kid in KIDS}

_RECEIPTS: Final = _key("receipts", "Ed25519")
RECEIPT_KEY: Final = ReceiptKey(_RECEIPTS, "receipt-1", "Ed25519")
RECEIPT_PUBLIC: Final = OKPKey.import_key(_RECEIPTS.as_dict(private=False))


def recipient(org_code: str, kid: str) -> Recipient:
    """A recipient that has this key now."""
    return Recipient(org_code, True, RecipientKey(kid, PRIVATE_KEYS[kid].as_dict(private=False)))  # noqa: FBT003
