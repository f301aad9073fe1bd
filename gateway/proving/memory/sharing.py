"""Shares, holders and approvals in memory."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from msgspec.structs import replace

from gateway.base.keys import ConsentKey
from gateway.directory.partners import PartnerKey
from gateway.network.exchange import Operation
from gateway.outbox.rules.subjects import partner_of, payment_of
from gateway.payments.rules.lifecycle import PaymentState
from gateway.proving.memory.boundary import Boundary
from gateway.proving.memory.database import Database, Transaction
from gateway.sharing.rules.deciding import erase_cause
from gateway.sharing.rules.records import (
    Approval,
    Holder,
    Page,
    PaymentKey,
    Place,
    SettledPayment,
    ShareKey,
    ShareRow,
)
from gateway.sharing.rules.told import ToldPurchase, purchase_of
from schemas.consents import Purpose
from schemas.events import EventType
from schemas.primitives import ConsentId, PartnerId, PaymentId

_HERE = "here"


class MemorySharingStore:
    """Implements :class:`gateway.sharing.store.SharingStore` in one transaction."""

    def __init__(self, transaction: Transaction, boundary: Boundary) -> None:
        self._tx = transaction
        self._db: Database = transaction.database
        self._boundary = boundary

    async def follow(self) -> None:
        await self._boundary("sharing.follow")
        await self._tx.insert(self._db.sharing.place, _HERE, Place())
        self._go_on()

    def _go_on(self) -> None:
        """Whatever operators said of it meanwhile."""
        if self._tx.get(self._db.sharing.retired, _HERE):
            self._tx.delete(self._db.sharing.retired, _HERE)

    async def place(self) -> Place:
        await self._boundary("sharing.place")
        return self._tx.get(self._db.sharing.place, _HERE) or Place()

    async def read(self, after: Place, limit: int) -> Page:
        await self._boundary("sharing.read")
        here = (after.tx, after.id)
        rows = self._db.read_outbox(here, len(self._db.outbox))
        if not rows:
            return Page(after)
        if not self._has_work():
            return Page(Place(rows[-1].tx, rows[-1].id))
        rows = rows[:limit]
        settled = [
            found
            for row in rows
            if row.event.event_type == EventType.PAYMENT_SETTLED
            and (named := payment_of(row.event.topic, row.event.key)) is not None
            and (found := self._settled(named, row.event.body)) is not None
        ]
        changed = {
            (PartnerId(partner_of(row.event.topic)), ConsentId(row.event.key))
            for row in rows
            if row.event.event_type == EventType.CONSENT_CHANGED
        }
        held = {r.key for _, r in self._tx.items(self._db.sharing.holders) if r.notice is None}
        payments = {(p.partner_id, p.payment_id): p for p in settled}
        last = Place(rows[-1].tx, rows[-1].id)
        return Page(
            last, len(rows) == limit, tuple(p for _, p in sorted(payments.items())), tuple(sorted(changed & held))
        )

    def _has_work(self) -> bool:
        return any(c.terms.sharing is not None for _, c in self._tx.items(self._db.consents)) or any(
            r.notice is None for _, r in self._tx.items(self._db.sharing.holders)
        )

    def _settled(self, named: tuple[str, str], body: bytes) -> SettledPayment | None:
        key = (PartnerId(named[0]), PaymentId(UUID(named[1])))
        told = purchase_of(named, body) or self._asked(key)
        if told is None:
            return None
        consent = self._tx.get(self._db.consents, told.consent_key)
        if consent is None or consent.terms.sharing is None or Purpose.SHARING in consent.ended:
            return None
        merchant = self._tx.get(self._db.merchants, told.merchant_id)
        return SettledPayment(
            partner_id=key[0],
            payment_id=key[1],
            consent_id=told.consent_key[1],
            merchant_id=told.merchant_id,
            amount_minor=told.amount_minor,
            currency=told.currency,
            paid_at=told.paid_at,
            category=merchant.acceptor.mcc if merchant else None,
            name_location=merchant.acceptor.name_location if merchant else None,
        )

    def _asked(self, key: PaymentKey) -> ToldPurchase | None:
        payment = self._tx.get(self._db.payments, key)
        if payment is None or (payment.operation, payment.state) != (Operation.PURCHASE, PaymentState.SETTLED):
            return None
        consent_key, amount, currency = payment.consent_key, payment.amount_minor, payment.currency
        return ToldPurchase(consent_key, payment.merchant_id, amount, currency, payment.decided_at)

    async def tokens(self, keys: Sequence[PaymentKey]) -> Mapping[PaymentKey, str]:
        await self._boundary("sharing.tokens")
        found = {key: self._tx.get(self._db.payments, key) for key in keys}
        return {key: p.funding_token for key, p in found.items() if p is not None and p.funding_token is not None}

    async def advance(self, before: Place, after: Place) -> bool:
        await self._boundary("sharing.advance")
        if await self._tx.insert(self._db.sharing.place, _HERE, Place()):
            now: Place = Place()
        else:
            now = (await self._tx.lock(self._db.sharing.place, [_HERE]))[_HERE]
        if now != before:
            return False
        self._tx.update(self._db.sharing.place, _HERE, after)
        self._go_on()
        return True

    async def take_turn(self) -> None:
        await self._boundary("sharing.take_turn")
        await self._tx.lock(self._db.sharing.place, [_HERE])

    async def bundles_are_read(self) -> bool:
        await self._boundary("sharing.bundles_are_read")
        return self._db.relay_reads_bundles and self._db.log_reads_bundles

    async def approvals(self) -> Sequence[Approval]:
        await self._boundary("sharing.approvals")
        return [a for _, a in sorted(self._tx.items(self._db.sharing.approvals), key=lambda i: i[0])]

    async def approved(self) -> frozenset[tuple[str, str]]:
        await self._boundary("sharing.approved")
        return frozenset((a.affiliate_id, a.use.value) for _, a in self._tx.items(self._db.sharing.approvals))

    async def affiliates(self) -> frozenset[str]:
        await self._boundary("sharing.affiliates")
        return frozenset(affiliate for (affiliate, _), _ in self._tx.items(self._db.sharing.approvals))

    async def known_affiliates(self) -> frozenset[str]:
        await self._boundary("sharing.known_affiliates")
        return frozenset(affiliate for (affiliate, _), _ in self._tx.items(self._db.sharing.approvals))

    async def affiliate_keys(self) -> Sequence[PartnerKey]:
        await self._boundary("sharing.affiliate_keys")
        return []

    async def holders(self, keys: Sequence[ConsentKey]) -> Sequence[Holder]:
        await self._boundary("sharing.holders")
        wanted, latest = frozenset(keys), {}
        for (key, affiliate, _), row in sorted(self._tx.items(self._db.sharing.holders), key=lambda i: i[0]):
            if key in wanted:
                latest[key, affiliate] = row
        return list(latest.values())

    async def ended(self, keys: Sequence[ConsentKey]) -> Mapping[ConsentKey, datetime]:
        await self._boundary("sharing.ended")
        wanted = frozenset(keys)
        found = sorted(
            (row.ended_at, row.key)
            for _, row in self._tx.items(self._db.purpose_ends)
            if row.key in wanted and row.purpose is Purpose.SHARING
        )
        return {key: ended_at for ended_at, key in found}

    async def add_shares(self, shares: Sequence[ShareRow]) -> frozenset[ShareKey]:
        await self._boundary("sharing.add_shares")
        return frozenset([s.key for s in shares if await self._tx.insert(self._db.sharing.shares, s.key, s)])

    async def write_holders(self, holders: Sequence[Holder]) -> None:
        await self._boundary("sharing.write_holders")
        for row in sorted(holders, key=lambda r: (r.key, r.affiliate_id, r.round)):
            key = (row.key, row.affiliate_id, row.round)
            if not await self._tx.insert(self._db.sharing.holders, key, row):
                self._tx.update(self._db.sharing.holders, key, row)

    async def must_erase(self, now: datetime, limit: int) -> Sequence[ConsentKey]:
        await self._boundary("sharing.must_erase")
        approved = {(a.affiliate_id, a.use.value) for _, a in self._tx.items(self._db.sharing.approvals)}
        found = {
            row.key
            for _, row in self._tx.items(self._db.sharing.holders)
            if row.notice is None
            and erase_cause(row, self._tx.get(self._db.consents, row.key), approved, now) is not None
        }
        return sorted(found)[:limit]

    async def lock_notices(self, notices: Sequence[UUID]) -> Mapping[UUID, Holder]:
        await self._boundary("sharing.lock_notices")
        wanted = frozenset(notices)
        keys = [k for k, r in self._tx.items(self._db.sharing.holders) if r.notice and r.notice.notice_id in wanted]
        rows = (await self._tx.lock(self._db.sharing.holders, keys)).values()
        return {r.notice.notice_id: r for r in rows if r.notice is not None}

    async def confirm(self, notices: Sequence[tuple[UUID, str, int]], *, now: datetime) -> None:
        await self._boundary("sharing.confirm")
        confirmed = frozenset(n[0] for n in notices)
        for key, row in list(self._tx.items(self._db.sharing.holders)):
            if row.notice is not None and row.notice.notice_id in confirmed and row.confirmed_at is None:
                self._tx.update(self._db.sharing.holders, key, replace(row, confirmed_at=now))

    async def ask_reminder(self, notice_id: UUID, *, now: datetime) -> bool:
        await self._boundary("sharing.ask_reminder")
        found = (await self.lock_notices([notice_id])).get(notice_id)
        if found is None or found.confirmed_at is not None:
            return False
        if await self._tx.insert(self._db.sharing.reminders, notice_id, (now, 0)):
            return True
        since, sent = (await self._tx.lock(self._db.sharing.reminders, [notice_id]))[notice_id]
        self._tx.update(self._db.sharing.reminders, notice_id, (since or now, sent))
        return True

    async def take_reminders(self, limit: int) -> Sequence[tuple[Holder, int]]:
        await self._boundary("sharing.take_reminders")
        due = [
            (since, notice) for notice, (since, _) in self._tx.items(self._db.sharing.reminders) if since is not None
        ]
        taken = []
        for _, notice in sorted(due)[:limit]:
            if not self._tx.try_lock(self._db.sharing.reminders, notice):
                continue
            holder = (await self.lock_notices([notice]))[notice]
            sent = (self._tx.get(self._db.sharing.reminders, notice) or (None, 0))[1]
            is_open = holder.confirmed_at is None
            self._tx.update(self._db.sharing.reminders, notice, (None, sent + is_open))
            if is_open:
                taken.append((holder, sent + 1))
        return taken

    async def overdue(self, now: datetime) -> tuple[int, datetime | None]:
        await self._boundary("sharing.overdue")
        late = [
            row.notice.erase_by
            for _, row in self._tx.items(self._db.sharing.holders)
            if row.notice is not None and row.confirmed_at is None and row.notice.erase_by <= now
        ]
        return len(late), min(late, default=None)
