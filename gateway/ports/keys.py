"""Partners' keys and signatures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique
from typing import Any, Protocol

from schemas.primitives import PartnerId
from schemas.reasons import Reason


@dataclass(frozen=True, slots=True)
class PartnerKey:
    """A partner's registered public key. ``jwk`` holds public members only."""

    kid: str
    partner_id: PartnerId
    algorithm: str
    jwk: Mapping[str, Any]
    valid_from: datetime
    valid_until: datetime | None
    disabled_at: datetime | None


class KeySource(Protocol):
    """Partners and their keys, held in memory and refreshed within seconds of a change."""

    def partner_exists(self, partner_id: str) -> bool:
        """True for a registered, active partner."""

    def key(self, kid: str) -> PartnerKey | None:
        """The key with this id, whatever its state."""

    async def refresh_if_stale(self) -> bool:
        """Read the registry again for an unknown partner or key; True if it was read by this call or during it.

        At most once a second, which this waits for, unless too many in a row have asked for what does not exist.
        """


class NotAuthenticatedError(Exception):
    """Nobody is known to have written the record, so nobody is told of it. The text holds nothing of the record.

    Attributes:
        reason: why.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(f"{reason.code}: {reason.text}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature that matches its bytes.

    Attributes:
        partner_id: whose key it was made with, whatever the body says.
        lapsed: why the key vouches for nothing new any more: it was disabled, or its time is over. None: it does.
    """

    partner_id: PartnerId
    lapsed: Reason | None = None


class SignatureVerifier(Protocol):
    """Checks partners' detached signatures."""

    def authenticate(self, *, body: bytes, signature: str | None, type_: str | None, now: datetime) -> Signed | Reason:
        """Who signed exactly these bytes as this message type, or why nobody is known to have.

        Nothing of ``body`` is read: it may be large, and anybody's. ``type_`` None: the record does not say what it is,
        and the signature may be one for any type.
        """

    def recheck(self, *, signature: str | None, now: datetime) -> Reason | None:
        """Why a signature that held a while ago counts no more.

        Its key or partner was disabled, or the registry does not hold the key.
        """


@unique
class MarkProblem(StrEnum):
    """Why a mark does not show that the gateway wrote a record."""

    UNKNOWN_KEY = "unknown_key"
    WRONG = "wrong"


class RecordMarks(Protocol):
    """Marks (MACs) on what the gateway's own processes write, by which they know it again. CPU only: some 3 µs."""

    def mark(self, parts: Sequence[bytes | None]) -> bytes:
        """The mark over exactly these parts, in this order."""

    def check(self, mark: bytes, parts: Sequence[bytes | None]) -> MarkProblem | None:
        """None if :meth:`mark` made this mark of exactly these parts, under a key of the ring."""
