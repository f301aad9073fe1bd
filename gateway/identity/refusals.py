"""Refused records of partners, of orders and of commands alike: each is recorded, and told, once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.outbox.store import OutboxUnit
from schemas.primitives import PartnerId
from schemas.reasons import Reason


@dataclass(frozen=True, slots=True)
class Refusal:
    """An order that did not become a payment; ``reference`` names the record, so that redelivery records it once."""

    partner_id: PartnerId
    order_id: str
    reference: str
    reason: Reason


class RefusalStore(Protocol):
    """Records of partners that were refused."""

    async def insert(self, refusals: Sequence[Refusal]) -> frozenset[str]:
        """Record refusals that are not recorded yet; return the references of these."""

    async def find(self, records: Sequence[tuple[PartnerId, str]]) -> frozenset[str]:
        """Of records (partner, reference), the references of those whose refusal is recorded."""


class RefusalUnit(Protocol):
    """Refusals."""

    @property
    def refusals(self) -> RefusalStore:
        """Records of partners that were refused."""


class RefusingUnit(RefusalUnit, OutboxUnit, Protocol):
    """Records a refusal and tells it, together or not at all."""
