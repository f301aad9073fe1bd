"""Cancellations as they are remembered."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from gateway.payments.cancellations.rules import CancellationKey, HandledCancellation
from gateway.payments.rules.payment import PaymentKey
from schemas.primitives import ConsentId, PartnerId


class CancellationStore(Protocol):
    """Cancellations and what became of them."""

    async def handled(self, keys: Sequence[CancellationKey]) -> Mapping[CancellationKey, HandledCancellation]:
        """Cancellations that were handled before."""

    async def remember(self, handled: Sequence[HandledCancellation]) -> frozenset[CancellationKey]:
        """Remember cancellations that are not remembered yet; return the keys of these."""

    async def answer(self, references: Sequence[tuple[PartnerId, str]]) -> frozenset[tuple[PartnerId, str]]:
        """Note that these records are answered; return those that were not answered before."""

    async def not_sent(self, orders: Sequence[PaymentKey]) -> Mapping[PaymentKey, frozenset[ConsentId]]:
        """Orders that were cancelled before they came, with the consents that their cancellations name."""

    async def lock_due(self, *, limit: int) -> Sequence[HandledCancellation]:
        """Open ones whose payments' outcomes are known, locked; those that another transaction holds are left."""

    async def update(self, handled: Sequence[HandledCancellation]) -> None:
        """Write outcome and openness of cancellations that this transaction has locked."""


class CancellationUnit(Protocol):
    """Cancellations."""

    @property
    def cancellations(self) -> CancellationStore:
        """Cancellations and what became of them."""
