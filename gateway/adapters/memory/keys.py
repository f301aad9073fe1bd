"""Partners' keys, signature checks and the clock in memory."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from gateway.adapters.memory.boundary import Boundary, no_boundary
from gateway.ports import PartnerKey
from schemas.reasons import Reason, ReasonCode

UNSIGNED = Reason(code=ReasonCode.DS0B, text="header signature is missing")


class MemoryKeySource:
    """Implements :class:`gateway.ports.KeySource`.

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
    """Implements :class:`gateway.ports.SignatureVerifier` by a table: signature text → why it is refused.

    A signature that is not in the table is accepted; a missing one never is.
    """

    def __init__(self, refused: Mapping[str, Reason] | None = None) -> None:
        self.refused = dict(refused or {})

    def verify(
        self,
        *,
        body: bytes,  # noqa: ARG002 - the port's, as the others below: the table looks at the signature alone
        signature: str | None,
        partner_id: str,  # noqa: ARG002
        type_: str,  # noqa: ARG002
        now: datetime,  # noqa: ARG002
    ) -> Reason | None:
        return UNSIGNED if signature is None else self.refused.get(signature)

    def recheck(self, *, signature: str | None, now: datetime) -> Reason | None:  # noqa: ARG002
        return UNSIGNED if signature is None else self.refused.get(signature)


class MemoryClock:
    """Implements :class:`gateway.ports.Clock`; time stands still until it is moved."""

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
