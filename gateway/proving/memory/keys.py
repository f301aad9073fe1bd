"""Partners' keys, signature checks and the clock in memory."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from gateway.directory.partners import PartnerKey
from gateway.identity.signing import KeySource, Signed
from gateway.proving.memory.boundary import Boundary, no_boundary
from schemas.primitives import PartnerId
from schemas.reasons import Reason, ReasonCode

INACTIVE = Reason(code=ReasonCode.AG01, text="the partner is no longer active")
UNSIGNED = Reason(code=ReasonCode.DS0B, text="header signature is missing")

_LAPSED = frozenset({ReasonCode.DS0C, ReasonCode.DS0D})
_PARTNER = re.compile(rb'"partner_id"\s*:\s*"([A-Za-z0-9._-]+)"')


class MemoryKeySource:
    """Implements :class:`gateway.identity.signing.KeySource`.

    ``register`` changes the registry; workers see it, as on a real one, once they have read it again.
    """

    def __init__(
        self, partners: Iterable[str] = (), keys: Iterable[PartnerKey] = (), boundary: Boundary = no_boundary
    ) -> None:
        self._boundary = boundary
        self._registered = (frozenset(partners), {k.kid: k for k in keys})
        self._read = self._registered

    def register(self, partners: Iterable[str] = (), keys: Iterable[PartnerKey] = ()) -> None:
        """Add partners and keys to the registry."""
        known, by_kid = self._registered
        self._registered = (known | frozenset(partners), {**by_kid, **{k.kid: k for k in keys}})

    def partner_exists(self, partner_id: str) -> bool:
        return partner_id in self._read[0]

    def key(self, kid: str) -> PartnerKey | None:
        return self._read[1].get(kid)

    async def refresh_if_stale(self) -> bool:
        await self._boundary("keys.refresh")
        self._read = self._registered
        return True


class MemoryVerifier:
    """Implements :class:`gateway.identity.signing.SignatureVerifier` by a table: signature text → why it is refused.

    A signature that is not in the table is accepted; a missing one never is. A key that was disabled (DS0C) or is over
    (DS0D) still tells who signed.

    Args:
        owners: signature text → whose key it was made with. Of any other: the partner that the body names, or where it
            names none ``partner-1``.
        keys: tells which partners are active; None: all are.
    """

    def __init__(
        self,
        refused: Mapping[str, Reason] | None = None,
        *,
        owners: Mapping[str, str] | None = None,
        keys: KeySource | None = None,
    ) -> None:
        self.refused = dict(refused or {})
        self.owners = dict(owners or {})
        self._keys = keys

    def authenticate(
        self,
        *,
        body: bytes,
        signature: str | None,
        type_: str | None,  # noqa: ARG002 - the port's, as the next: the table looks at the signature alone
        now: datetime,  # noqa: ARG002
    ) -> Signed | Reason:
        if signature is None:
            return UNSIGNED
        refused = self.refused.get(signature)
        if refused is not None and refused.code not in _LAPSED:
            return refused
        named = _PARTNER.search(body)
        owner = self.owners.get(signature) or (named[1].decode() if named else "partner-1")
        if self._keys is not None and not self._keys.partner_exists(owner):
            return INACTIVE
        return Signed(PartnerId(owner), refused)

    def recheck(self, *, signature: str | None, now: datetime) -> Reason | None:  # noqa: ARG002
        return UNSIGNED if signature is None else self.refused.get(signature)


class MemoryClock:
    """Implements :class:`gateway.base.process.Clock`; time stands still until it is moved."""

    def __init__(self, now: datetime = datetime(2026, 3, 2, 3, 4, 5, tzinfo=UTC)) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def set(self, now: datetime) -> None:
        """Move to a moment, also backwards: clocks are sometimes corrected."""
        self._now = now

    def advance(self, seconds: float) -> None:
        """Move on."""
        self._now += timedelta(seconds=seconds)
