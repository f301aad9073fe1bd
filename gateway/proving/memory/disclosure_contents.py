"""What time does to the disclosure log, in memory."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import takewhile
from typing import Final

from gateway.disclosure.rules.entry import Entry, Kind
from gateway.disclosure.rules.notices import YEAR, CustomerOfPartner, Disclosed
from gateway.disclosure.store import Evidence
from gateway.proving.memory.boundary import Boundary
from gateway.proving.memory.database import Transaction
from schemas.primitives import CustomerId, PartnerId

_LEAST: Final = timedelta(days=3 * 365)


class MemoryDisclosureContents:
    """Implements :class:`gateway.disclosure.store.DisclosureContents` in one transaction."""

    def __init__(self, transaction: Transaction, boundary: Boundary) -> None:
        self._tx = transaction
        self._db = transaction.database
        self._boundary = boundary

    async def destroy(self, *, before: datetime, limit: int) -> Evidence | None:
        await self._boundary("disclosures.destroy")
        evidence = [row for _, row in self._tx.items(self._db.disclosures_destroyed)]
        first = max((e.last_seq for e in evidence), default=0) + 1
        there = [e for e in self._db.disclosure_entries if e.seq >= first][:limit]
        gone = list(takewhile(lambda e: e.use.occurred_at < before, there))
        if not gone:
            return None
        digest = sha256(b"".join(e.content_hash for e in gone)).digest()
        made = Evidence(first, gone[-1].seq, "retention of three years", before, digest, before + _LEAST)
        await self._tx.insert(self._db.disclosures_destroyed, first, made)
        return made

    async def find_customers(self, *, limit: int) -> int:
        await self._boundary("disclosures.find_customers")
        after = self._tx.get(self._db.notice_cursor, 0) or 0
        looked = [e for e in self._contents() if e.seq > after][:limit]
        if not looked or not self._tx.try_lock(self._db.notice_cursor, 0):
            return 0
        for entry in looked:
            use = entry.use
            if use.partner_id is None or use.customer_id is None:
                continue
            whom = PartnerId(use.partner_id), CustomerId(use.customer_id)
            row = CustomerOfPartner(*whom, use.occurred_at, use.occurred_at + YEAR)
            await self._tx.insert(self._db.notices, whom, row)
        self._tx.update(self._db.notice_cursor, 0, looked[-1].seq)
        return len(looked)

    async def due_notices(self, now: datetime, *, limit: int) -> Sequence[CustomerOfPartner]:
        await self._boundary("disclosures.due_notices")
        due = sorted((r for _, r in self._tx.items(self._db.notices) if r.until <= now), key=lambda r: r.until)
        return [r for r in due if self._tx.try_lock(self._db.notices, (r.partner_id, r.customer_id))][:limit]

    async def disclosed(self, whom: CustomerOfPartner) -> Sequence[Disclosed]:
        await self._boundary("disclosures.disclosed")
        counted: Counter[tuple[str, Kind, str]] = Counter(
            (e.use.recipient, e.use.kind, e.use.purpose)
            for e in self._contents()
            if (e.use.partner_id, e.use.customer_id) == (whom.partner_id, whom.customer_id)
            and whom.since <= e.use.occurred_at < whom.until
        )
        return [Disclosed(*key, count) for key, count in counted.items()]

    async def notified(self, told: Sequence[CustomerOfPartner]) -> None:
        await self._boundary("disclosures.notified")
        for whom in told:
            key = (whom.partner_id, whom.customer_id)
            self._tx.update(self._db.notices, key, replace(whom, since=whom.until, until=whom.until + YEAR))

    def _contents(self) -> list[Entry]:
        gone = max((e.last_seq for _, e in self._tx.items(self._db.disclosures_destroyed)), default=0)
        return [e for e in self._db.disclosure_entries if e.seq > gone]
