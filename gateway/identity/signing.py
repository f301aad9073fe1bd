"""Partners' keys and signatures."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from gateway.directory.partners import PartnerKey
from schemas.primitives import PartnerId
from schemas.reasons import Reason


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


class Signed(Struct, frozen=True, gc=False):
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


def recheck_signatures(
    verifier: SignatureVerifier, signatures: Sequence[str | None], now: datetime
) -> list[Reason | None]:
    """What initiation verified, looked at again: why each signature counts no more, or None."""
    return [verifier.recheck(signature=s, now=now) for s in signatures]
