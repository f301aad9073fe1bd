"""What the API reads and writes."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from gateway.base.keys import ConsentKey
from gateway.consents.store import ConsentUnit
from gateway.outbox.store import OutboxUnit
from gateway.portability.api.rules.calls import Position, Span
from gateway.portability.rules.records import PaymentFacts, Recipient
from schemas.primitives import CustomerId, PartnerId


class PullStore(Protocol):
    """Recipients by their certificates, pages of customers' payments, and when customers last asked."""

    async def recipient(self, certificate_sha256: str) -> Recipient | None:
        """The recipient that shows this certificate; its key to encrypt to is not read."""

    async def accessed_at(self, key: ConsentKey, org_code: str) -> datetime | None:
        """When the customer last asked for something for this recipient: here, or by a transmission request."""

    async def access(self, key: ConsentKey, org_code: str, now: datetime) -> None:
        """Note that the customer asks now; also for the scheduled transmissions to this recipient under the consent."""

    async def tokens(self, customer_id: CustomerId) -> Sequence[str]:
        """Every funding token of a customer."""

    async def used_tokens(self, partner_id: PartnerId, customer_id: CustomerId) -> Sequence[str]:
        """Those that were used through this partner, sorted."""

    async def page(
        self,
        partner_id: PartnerId,
        customer_id: CustomerId,
        span: Span,
        *,
        after: Position,
        token: str | None,
        limit: int,
    ) -> Sequence[PaymentFacts]:
        """Payments of a customer through one partner behind a position, the latest first: one moment's.

        ``token``: only what was paid with it; None: everything.
        """


class PullDataUnit(Protocol):
    """What the API reads and writes."""

    @property
    def pulls(self) -> PullStore:
        """What the API reads and writes."""


class PullUnit(PullDataUnit, ConsentUnit, OutboxUnit, Protocol):
    """Answers a call."""
