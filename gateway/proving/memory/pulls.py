"""What the API reads and writes, in memory."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from gateway.base.keys import ConsentKey
from gateway.portability.api.rules.calls import Position, Span
from gateway.portability.rules.records import PaymentFacts, Recipient, RequestStatus
from gateway.proving.memory.boundary import Boundary
from gateway.proving.memory.database import Transaction
from gateway.proving.memory.portability import changed_since, facts_of
from schemas.primitives import CustomerId, PartnerId


class MemoryPullStore:
    """Implements :class:`gateway.portability.api.store.PullStore` in one transaction."""

    def __init__(self, transaction: Transaction, boundary: Boundary) -> None:
        self._tx = transaction
        self._db = transaction.database
        self._boundary = boundary

    async def recipient(self, certificate_sha256: str) -> Recipient | None:
        await self._boundary("pulls.recipient")
        org_code = self._tx.get(self._db.certificates, certificate_sha256)
        found = None if org_code is None else self._tx.get(self._db.recipients, org_code)
        return None if found is None else replace(found, key=None)

    async def accessed_at(self, key: ConsentKey, org_code: str) -> datetime | None:
        await self._boundary("pulls.accessed_at")
        here = self._tx.get(self._db.accesses, (*key, org_code))
        rows = [row for _, row in self._tx.items(self._db.transmissions) if row.consent_key == key]
        asked = [row.accessed_at for row in rows if row.request.rcv_org_code == org_code]
        return max([*asked, *([here] if here else [])], default=None)

    async def access(self, key: ConsentKey, org_code: str, now: datetime) -> None:
        await self._boundary("pulls.access")
        name = (*key, org_code)
        if not await self._tx.insert(self._db.accesses, name, now):
            before = (await self._tx.lock(self._db.accesses, [name]))[name]
            self._tx.update(self._db.accesses, name, max(before, now))
        for request_key, row in list(self._tx.items(self._db.transmissions)):
            own = row.consent_key == key and row.request.rcv_org_code == org_code
            if own and row.status is RequestStatus.ACTIVE:
                await self._tx.lock(self._db.transmissions, [request_key])
                later = replace(row, accessed_at=max(row.accessed_at, now))
                self._tx.update(self._db.transmissions, request_key, later)

    async def tokens(self, customer_id: CustomerId) -> Sequence[str]:
        await self._boundary("pulls.tokens")
        return [token for token, row in self._tx.items(self._db.tokens) if row.customer_id == customer_id]

    async def used_tokens(self, partner_id: PartnerId, customer_id: CustomerId) -> Sequence[str]:
        await self._boundary("pulls.used_tokens")
        own = {token for token, row in self._tx.items(self._db.tokens) if row.customer_id == customer_id}
        facts = facts_of(self._db, partner_id, customer_id)
        return sorted({f.funding_token for f in facts if f.funding_token is not None} & {str(t) for t in own})

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
        await self._boundary("pulls.page")
        found = [
            f
            for f in facts_of(self._db, partner_id, customer_id)
            if f.decided_at >= span.begins
            and _place(f) < (after.decided_at, after.payment_id)
            and (span.since is None or changed_since(self._db, partner_id, f, span.since))
            and (token is None or f.funding_token == token)
        ]
        return sorted(found, key=_place, reverse=True)[:limit]


def _place(facts: PaymentFacts) -> tuple[datetime, UUID]:
    return facts.decided_at, UUID(facts.payment_id)
