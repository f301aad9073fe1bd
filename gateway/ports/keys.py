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


class SignatureVerifier(Protocol):
    """Checks a partner's detached signature."""

    def verify(
        self, *, body: bytes, signature: str | None, partner_id: str, type_: str, now: datetime
    ) -> Reason | None:
        """None if the partner signed exactly these bytes as this message type; else why not."""

    def recheck(self, *, signature: str | None, now: datetime) -> Reason | None:
        """Why a signature that :meth:`verify` accepted a while ago counts no more.

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
