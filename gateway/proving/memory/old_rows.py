"""Rows whose time is over, in memory."""

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import assert_never

from gateway.disclosure.rules.destruction import Destruction, OldRows
from gateway.proving.memory.boundary import Boundary
from gateway.proving.memory.database import Transaction
from schemas.consents import ConsentStatus

_ALIVE = frozenset({ConsentStatus.AWAU, ConsentStatus.AUTH, ConsentStatus.SUSP})


class MemoryOldRows:
    """Implements :class:`gateway.disclosure.destroying.OldRowsStore` in one transaction; operators there are none."""

    def __init__(self, transaction: Transaction, boundary: Boundary) -> None:
        self._tx = transaction
        self._db = transaction.database
        self._boundary = boundary

    async def destroy(self, what: OldRows, *, before: datetime, limit: int) -> Sequence[Destruction]:
        await self._boundary("old_rows.destroy")
        match what:
            case OldRows.SHARES:
                found = self._shares(before, limit)
            case OldRows.CONTRIBUTIONS:
                found = self._contributions(before, limit)
            case OldRows.OPERATING:
                found = []
            case _:
                assert_never(what)
        made = [
            Destruction(number, kind, rows, rule, before, digest, before)
            for kind, rows, rule, digest in found
            if rows
            for number in self._db.next_numbers("data_destruction", 1)
        ]
        for evidence in made:
            await self._tx.insert(self._db.destructions, evidence.number, evidence)
        return made

    def _shares(self, before: datetime, limit: int) -> list[tuple[str, int, str, bytes | None]]:
        sharing = self._db.sharing
        holders = dict(self._tx.items(sharing.holders))
        last = {(key, affiliate): round_ for key, affiliate, round_ in sorted(holders)}
        over = []
        for (key, affiliate, number), row in holders.items():
            consent = self._tx.get(self._db.consents, key)
            is_needed = last[key, affiliate] == number and consent is not None and consent.status in _ALIVE
            if row.confirmed_at is not None and row.confirmed_at <= before and not is_needed:
                over.append((row.confirmed_at, (key, affiliate, number), row.notice))
        over = sorted(over, key=lambda o: o[:2])[:limit]
        rounds = {place for _, place, _ in over}
        shares = [k for k, s in self._tx.items(sharing.shares) if (s.consent_key, k[2], s.round) in rounds]
        # At once, as nothing else can be written of them any more.
        for place in rounds:
            sharing.holders.rows.pop(place, None)
        for share in shares:
            sharing.shares.rows.pop(share, None)
        notices = sorted(notice.notice_id for _, _, notice in over if notice is not None)
        rule = "three years after the erasure"
        digest = sha256(b"".join(n.bytes for n in notices)).digest()
        return [("rounds of sharing", len(rounds), rule, digest), ("shares with affiliates", len(shares), rule, None)]

    def _contributions(self, before: datetime, limit: int) -> list[tuple[str, int, str, bytes | None]]:
        marketing = self._db.marketing
        at = dict(self._tx.items(marketing.published_at))
        old = sorted((at[k], k) for k, rows in self._tx.items(marketing.published) if rows and at[k] <= before)[:limit]
        gone = [row for _, key in old for row in marketing.published.rows[key]]
        for _, key in old:
            marketing.published.rows[key] = ()
        digest = sha256(b"".join(sorted(row.payment_id.bytes for row in gone))).digest()
        return [("payments of aggregates", len(gone), "sixty days after the table", digest)]
