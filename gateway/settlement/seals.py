"""Seals of clearing files: HMAC-SHA256 or ECDSA under a key that the network gave, one folder of keys a network.

``<keys>/<network_id>/*.hmac`` hold a shared secret each, at least 32 bytes in hexadecimal; ``*.pem`` hold a public key
of P-256 each. Several are there while the network changes its key. A file's seal stands beside it: ``<file>.hmac`` has
the HMAC of its bytes in hexadecimal, ``<file>.sig`` the DER signature (SHA-256), also in Base64, as these write them::

    openssl dgst -sha256 -mac HMAC -macopt hexkey:… FILE | sed 's/.*= //' > FILE.hmac
    openssl dgst -sha256 -sign private.pem FILE | base64 > FILE.sig
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from gateway.settlement.store import ClearingSealError
from schemas.primitives import NetworkId

_SECRET_BYTES_MIN: Final = 32
_KEY_BYTES_MAX: Final = 16 * 1024
_READ_BYTES: Final = 1024 * 1024
_DER_SEQUENCE: Final = b"\x30"


class ClearingKeysError(ValueError):
    """A network's key file is not one. The text names it and holds nothing of it."""


@dataclass(frozen=True, slots=True)
class _Keys:
    secrets: tuple[bytes, ...] = field(default=(), repr=False)
    public: tuple[EllipticCurvePublicKey, ...] = ()


class FileSeals:
    """Implements :class:`gateway.settlement.store.ClearingSeals`."""

    def __init__(self, keys: Mapping[NetworkId, _Keys], *, allow_unsealed: bool) -> None:
        self._keys = keys
        self._allow_unsealed = allow_unsealed

    @classmethod
    def load(cls, directory: Path, networks: frozenset[str], *, allow_unsealed: bool) -> "FileSeals":
        """Read every network's keys.

        Args:
            directory: a folder a network in it; one that is not there: that network has no keys.
            networks: those that are configured.
            allow_unsealed: take files without a seal from networks that have no keys.

        Raises:
            ClearingKeysError: a key cannot be read.
        """
        found = {NetworkId(n): _load(directory / n) for n in networks if (directory / n).is_dir()}
        return cls(found, allow_unsealed=allow_unsealed)

    def required(self, network_id: NetworkId) -> bool:
        """True if the network has keys, or files without a seal are not taken at all."""
        return network_id in self._keys or not self._allow_unsealed

    def check(self, network_id: NetworkId, file: BinaryIO, seals: Mapping[str, bytes]) -> None:
        """Check the file under every key of the network."""
        if not self.required(network_id):
            return
        keys = self._keys.get(network_id)
        if keys is None:
            raise ClearingSealError(
                "the network has no key (MYPAY_CLEARING_KEYS_DIR), and files without a seal are not taken"
            )
        if not seals:
            raise ClearingSealError("the file came without a seal (.hmac or .sig)")
        macs = [hmac.new(secret, digestmod=hashlib.sha256) for secret in keys.secrets]
        digest = hashlib.sha256()
        while block := file.read(_READ_BYTES):
            digest.update(block)
            for mac in macs:
                mac.update(block)
        told = seals.get(".hmac", b"").strip().lower()
        if any(hmac.compare_digest(mac.hexdigest().encode(), told) for mac in macs):
            return
        signature = _signature(seals.get(".sig", b""))
        if not any(_verifies(key, signature, digest.digest()) for key in keys.public):
            raise ClearingSealError("the seal is not the network's over this file")


def _signature(seal: bytes) -> bytes:
    if seal.startswith(_DER_SEQUENCE):
        return seal
    try:
        return base64.b64decode(b"".join(seal.split()), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _verifies(key: EllipticCurvePublicKey, signature: bytes, digest: bytes) -> bool:
    try:
        key.verify(signature, digest, ECDSA(Prehashed(hashes.SHA256())))
    except InvalidSignature:
        return False
    return True


def _load(folder: Path) -> _Keys:
    secrets = tuple(_secret(path) for path in sorted(folder.glob("*.hmac")))
    public = tuple(_public(path) for path in sorted(folder.glob("*.pem")))
    if not secrets and not public:
        raise ClearingKeysError(f"{folder} holds no key: give *.hmac or *.pem, or no folder")
    return _Keys(secrets, public)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_KEY_BYTES_MAX)
    except OSError as error:
        raise ClearingKeysError(f"{path} cannot be read: {error.strerror}") from None


def _secret(path: Path) -> bytes:
    try:
        secret = bytes.fromhex(_read(path).decode("ascii").strip())
    except ValueError:
        raise ClearingKeysError(f"{path} is not hexadecimal") from None
    if len(secret) < _SECRET_BYTES_MIN:
        raise ClearingKeysError(f"{path} is shorter than {_SECRET_BYTES_MIN} bytes")
    return secret


def _public(path: Path) -> EllipticCurvePublicKey:
    try:
        key = load_pem_public_key(_read(path))
    except ValueError:
        raise ClearingKeysError(f"{path} is no public key in PEM") from None
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise ClearingKeysError(f"{path} is no key of the curve P-256")
    return key
