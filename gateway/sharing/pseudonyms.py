"""The names that one affiliate knows things by: HMAC-SHA256 (RFC 2104) under a key of the affiliate's own.

The affiliate's key follows from a master key of the ring and the affiliate's id, so that what two affiliates are given
for one customer is as unlike as for two. The newest key of the ring names; a name tells which key made it by its id.
"""

import base64
import hmac
from enum import StrEnum, unique
from hashlib import sha256
from typing import Final

from gateway.base.keys import ConsentKey
from gateway.sealing.sealing import MasterKeys, NoMasterKeyError, Purpose

_BLOCK: Final = 64
"""Of SHA-256, and longer than the keys here: these are 32 bytes."""

_BYTES: Final = 20
"""160 bits: nobody meets two things with one name."""


@unique
class Named(StrEnum):
    """What has a name of the affiliate's own; two kinds of things never share one."""

    CUSTOMER = "customer"
    CONSENT = "consent"
    PAYMENT = "payment"
    TOKEN = "token"  # noqa: S105 - a word of the vocabulary


class Pseudonyms:
    """Names things for affiliates. CPU only: some microseconds each.

    Raises:
        NoMasterKeyError: the ring is empty.
    """

    def __init__(self, ring: MasterKeys) -> None:
        newest = ring.newest
        if newest is None:
            raise NoMasterKeyError("no key is configured to name customers with")
        self._ring = ring
        self._affiliates: dict[tuple[str, str], _Hmac] = {}
        self.key_id: Final = newest

    def name(self, affiliate_id: str, what: Named, value: str, *, key_id: str | None = None) -> str:
        """The affiliate's name of a thing, under the newest key or an older one of the ring.

        Raises:
            NoMasterKeyError: the older key is not there any more.
        """
        tag = self._under(affiliate_id, key_id or self.key_id).digest(f"{what}\0{value}".encode())
        return base64.urlsafe_b64encode(tag[:_BYTES]).rstrip(b"=").decode()

    def name_of_round(self, affiliate_id: str, consent: ConsentKey, number: int, *, key_id: str | None = None) -> str:
        """The affiliate's name of a consent and a round under it; raises as :meth:`name`."""
        return self.name(affiliate_id, Named.CONSENT, f"{consent[0]}/{consent[1]}/{number}", key_id=key_id)

    def _under(self, affiliate_id: str, key_id: str) -> "_Hmac":
        made = self._affiliates.get((affiliate_id, key_id))
        if made is None:
            if key_id not in self._ring.ids:
                raise NoMasterKeyError(f"master key {key_id} is not configured")
            key = hmac.digest(self._ring.derive(Purpose.PSEUDONYM, key_id), affiliate_id.encode(), "sha256")
            made = self._affiliates[affiliate_id, key_id] = _Hmac(key)
        return made


class _Hmac:
    """HMAC-SHA256 under one key, whose part of the work is done once: less than half of the time of ``hmac.digest``."""

    def __init__(self, key: bytes) -> None:
        block = key.ljust(_BLOCK, b"\0")
        self._inner = sha256(bytes(b ^ 0x36 for b in block))
        self._outer = sha256(bytes(b ^ 0x5C for b in block))

    def digest(self, message: bytes) -> bytes:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.digest()
