"""Public keys of everybody who has some here, known by themselves and not by the ids that they were given.

A key that was disabled may be a stolen one: it must not come back under another id.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique
from typing import Any, Final

KEYS_LOCK: Final = "mypay public keys"
"""Whoever adds or disables public keys holds it: of two, the second sees what the first one did."""

_COORDINATES: Final = ("x", "y")
_THUMBED: Final = ("crv", "kty", *_COORDINATES)
_COORDINATE_BYTES: Final = 32
"""On each curve that is taken: P-256, Ed25519 and X25519."""


@unique
class Holder(StrEnum):
    """Who has public keys here."""

    PARTNER = "partner"
    AFFILIATE = "affiliate"
    RECIPIENT = "recipient"


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A public key as it was registered. ``owner``: the holder's id."""

    holder: Holder
    owner: str
    kid: str
    jwk: Mapping[str, Any]
    disabled_at: datetime | None


def well_spelt(jwk: Mapping[str, Any]) -> dict[str, Any]:
    """A public key that was taken as one, with its coordinates as RFC 7518 spells them: 32 bytes each.

    Ours are also taken with fewer or more leading zeros.
    """
    return {**jwk, **{name: _padded(str(jwk[name])) for name in _COORDINATES if name in jwk}}


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """The RFC 7638 thumbprint of a public key, however it is spelt."""
    members = {name: value for name, value in well_spelt(jwk).items() if name in _THUMBED}
    digest = hashlib.sha256(json.dumps(members, sort_keys=True, separators=(",", ":")).encode()).digest()
    return _base64url(digest)


def refuse_key(jwk: Mapping[str, Any], holder: Holder, owner: str, held: Iterable[HeldKey]) -> str | None:
    """Why the owner may not have this public key, whatever its id is to be, or None. ``held``: all that there are.

    It was disabled once, for whomever; or somebody else has it. Its owner may have it under a second id.
    """
    own = thumbprint(jwk)
    same = [k for k in held if thumbprint(k.jwk) == own]
    for key in same:
        if key.disabled_at is not None:
            return f"This public key was disabled, as {key.kid} of {key.holder} {key.owner}"
    for key in same:
        if (key.holder, key.owner) != (holder, owner):
            return f"This public key is registered, as {key.kid} of {key.holder} {key.owner}"
    return None


def _padded(text: str) -> str:
    try:
        number = base64.urlsafe_b64decode(text.rstrip("=") + "==")
    except ValueError:
        return text
    return _base64url(number.lstrip(b"\0").rjust(_COORDINATE_BYTES, b"\0"))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
