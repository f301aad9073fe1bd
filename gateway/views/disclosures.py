"""The disclosure log: what was used of a consent or a customer, with proofs; and all of it, verified."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from gateway.database.queries import load
from gateway.disclosure.postgres import head_of
from gateway.disclosure.rules.entry import GENESIS, Entry, Kind, Use
from gateway.disclosure.rules.merkle import BLOCK, path_in
from gateway.disclosure.rules.notices import CustomerOfPartner, Disclosed, notice_of
from gateway.disclosure.rules.proof import Placed
from gateway.disclosure.rules.sequence import Head
from gateway.disclosure.rules.uses import BODY_TYPES, PAYMENT_TYPES
from gateway.disclosure.rules.verification import Destroyed, Finding, SignedRoot, Verification
from gateway.disclosure.signing import RootVerifier
from gateway.outbox.bundles import bundle_type, logged_of
from gateway.outbox.store import OutboxEvent
from gateway.views.view import View
from schemas.disclosure import DisclosureNotice
from schemas.events import EventType
from schemas.primitives import CustomerId, PartnerId

_SQL = load(__name__, "disclosures")

CHUNK: Final = 7_000
"""Entries a query: each takes some hundredths of a second, and none holds a snapshot for longer than that. Measured: a
twentieth less processor time an entry than with three times as many, which leave the caches in between."""


UNLOGGED_TOLD: Final = 100
"""Uses without an entry that are told: one is enough to look for the others."""


@dataclass(frozen=True, slots=True)
class ToldNotice:
    """A customer's notice for one partner. ``next_at``: when the next one is told; None where none is planned yet."""

    notice: DisclosureNotice
    next_at: datetime | None


@dataclass(frozen=True, slots=True)
class Destruction:
    """Evidence that rows were destroyed: what they were, how many, by which rule, and under which login."""

    kind: str
    rows: int
    rule: str
    before: datetime
    digest: bytes | None
    destroyed_at: datetime
    login: str


class DisclosuresView(View):
    """The disclosure log."""

    async def head(self) -> Head:
        """Where the chain ends."""
        return head_of((await self._fetch(_SQL.head))[0])

    async def all(self, *, after: int, limit: int) -> list[Entry]:
        """Entries behind one, in their order, as far as their contents are there."""
        return [_entry(r) for r in await self._fetch(_SQL.all, after, limit)]

    async def of_consent(self, partner_id: str, consent_id: str, *, limit: int) -> list[Entry]:
        """Uses of a consent, the latest first."""
        return [_entry(r) for r in await self._fetch(_SQL.of_consent, partner_id, consent_id, limit)]

    async def of_customer(
        self, customer_id: str, *, since: datetime, until: datetime, partner_id: str | None, limit: int
    ) -> list[Entry]:
        """What was used of a customer from ``since`` until before ``until``, in the order in which it was."""
        return [_entry(r) for r in await self._fetch(_SQL.of_customer, customer_id, since, until, partner_id, limit)]

    async def notices(
        self, customer_id: CustomerId, *, since: datetime, until: datetime, partner_id: PartnerId | None
    ) -> list[ToldNotice]:
        """What a customer's notices of a period tell, one a partner, whether they were sent or not yet."""
        counted: dict[PartnerId, list[Disclosed]] = {}
        for r in await self._fetch(_SQL.noticed, customer_id, since, until, partner_id):
            row = Disclosed(r["recipient"], Kind(r["kind"]), r["purpose"], r["count"])
            counted.setdefault(r["partner_id"], []).append(row)
        due = {r["partner_id"]: r["next_at"] for r in await self._fetch(_SQL.notices, customer_id, partner_id)}
        return [
            ToldNotice(
                notice_of(CustomerOfPartner(partner, customer_id, since, until), counted[partner], until),
                due.get(partner),
            )
            for partner in sorted(counted)
        ]

    async def destructions(self, *, limit: int) -> list[Destruction]:
        """Evidence of everything that was destroyed, the latest first."""
        return [Destruction(**dict(r)) for r in await self._fetch(_SQL.destructions, limit)]

    async def proofs(self, entries: Sequence[Entry]) -> tuple[list[Placed], list[str]]:
        """The entries in the trees of their roots, and the statements of these roots."""
        seqs = [e.seq for e in entries]
        previous = {1: GENESIS} | {
            r["seq"]: r["entry_hash"] for r in await self._fetch(_SQL.previous, [s - 1 for s in seqs])
        }
        roots = await self._fetch(_SQL.roots_over, seqs)
        placed: list[Placed] = []
        blocks: dict[int, list[bytes]] = {}
        for entry in entries:
            root = next((r for r in roots if r["first_seq"] <= entry.seq <= r["last_seq"]), None)
            if root is None:
                placed.append(Placed(entry, previous[entry.seq], None))
                continue
            if root["number"] not in blocks:
                rows = await self._fetch(_SQL.blocks_of, root["first_seq"], root["last_seq"])
                blocks[root["number"]] = [r["hash"] for r in rows]
            path = await self._path(entry.seq, root["first_seq"], root["last_seq"], blocks[root["number"]])
            placed.append(Placed(entry, previous[entry.seq], root["number"], tuple(path)))
        return placed, [r["statement"] for r in roots]

    async def _path(self, seq: int, first: int, last: int, blocks: Sequence[bytes]) -> list[bytes]:
        index, size = seq - first, last - first + 1
        begin = first + index // BLOCK * BLOCK
        leaves = await self._leaves(begin, min(begin + BLOCK - 1, last))
        tail = first + size // BLOCK * BLOCK
        if begin != tail and tail <= last:
            leaves += await self._leaves(tail, last)
        return path_in(blocks, leaves, index, size)

    async def _leaves(self, first: int, last: int) -> list[bytes]:
        return [r["entry_hash"] for r in await self._fetch(_SQL.leaves, first, last)]

    async def roots(self, verifier: RootVerifier) -> list[SignedRoot]:
        """Every root, by number."""
        return [
            SignedRoot(r["number"], r["statement"], verifier.read(r["statement"]))
            for r in await self._fetch(_SQL.roots)
        ]

    async def destroyed(self) -> list[Destroyed]:
        """Evidence of what was destroyed."""
        rows = await self._fetch(_SQL.destroyed)
        return [Destroyed(r["first_seq"], r["last_seq"], r["digest"]) for r in rows]

    async def verify(
        self,
        verifier: RootVerifier,
        *,
        published: Sequence[SignedRoot] | None = None,
        beside: Sequence["DisclosuresView"] = (),
        progress: Callable[[int], None] = lambda _: None,
    ) -> Verification:
        """Compute all of the log anew, and compare it with what is stored and with what was published.

        Args:
            verifier: reads roots.
            published: as others have them, read before this is called: whatever was published by then is in the log.
                None where they cannot be read.
            beside: on connections of their own: the server puts rows together on one core for each, which takes most of
                the time.
            progress: told how many entries were looked at.
        """
        head = await self.head()
        blocks = {r["first_seq"]: r["hash"] for r in await self._fetch(_SQL.blocks)}
        # Roots that are made meanwhile are not looked at: their entries may not be read.
        roots = [r for r in await self.roots(verifier) if r.number <= head.root_number]
        verification = Verification(roots, blocks)
        async for rows in self._packed(head, [self, *beside]):
            # In a thread: the server puts the next rows together meanwhile.
            await asyncio.to_thread(verification.feed, rows)
            progress(verification.entries)
        verification.finish(head, await self.destroyed(), published)
        verification.findings += [
            Finding(f"event {event_id}", f"a use ({event_type}) of which there is no entry")
            for event_id, event_type in await self._unlogged()
        ]
        return verification

    async def _unlogged(self) -> list[tuple[str, str]]:
        """Ids and types of uses that the outbox still holds, and of which there is no entry; the first ones."""
        oldest = await self._fetch(_SQL.oldest)
        if not oldest:
            return []
        asked = (_USES, EventType.PAYMENT_REJECTED, UNLOGGED_TOLD, await self._last_of(oldest[0][0] - 1))
        found = [(use["event_id"], use["event_type"]) for use in await self._fetch(_SQL.unlogged, *asked)]
        return found + await self._unlogged_in_bundles(UNLOGGED_TOLD - len(found))

    async def _last_of(self, tx: int) -> int:
        """The last entry that tells of a transaction up to one; 0 where none does."""
        return int((await self._fetch(_SQL.last_of, tx))[0][0])

    async def _unlogged_in_bundles(self, limit: int) -> list[tuple[str, str]]:
        """Ids and types of uses in bundles that the outbox still holds, and of which there is no entry."""
        found: list[tuple[str, str]] = []
        place = ("0", 0)
        while len(found) < limit:
            rows = await self._fetch(_SQL.bundles, *place, _BUNDLES, _BUNDLES_CHUNK)
            if not rows:
                break
            place = (rows[-1]["tx"], rows[-1]["id"])
            held: dict[int, OutboxEvent] = {}
            for _, number, topic, event_id, event_type, occurred_at, body in rows:
                held |= logged_of(number, OutboxEvent(topic, "", event_id, event_type, occurred_at, body))
            entries = await self._last_of(int(rows[0]["tx"]) - 1), await self._last_of(int(rows[-1]["tx"]))
            missing = [r["n"] for r in await self._fetch(_SQL.without_entry, list(held), *entries)]
            found += [(held[number].event_id, held[number].event_type) for number in missing]
        return found[:limit]

    async def packed(self, after: int, last: int) -> list[asyncpg.Record]:
        """Entries behind one up to another, as they are verified: a row each, of one column."""
        return await self._fetch(_SQL.packed, after, last)

    async def _packed(self, head: Head, views: Sequence["DisclosuresView"]) -> AsyncIterator[list[bytes]]:
        """All rows up to the head, or further where there are more, in their order.

        A query a chunk: a snapshot that is held for the whole log would keep the server from clearing up. Each view has
        one in hand.
        """
        last = max(head.seq, (await self._fetch(_SQL.last))[0][0] or 0)
        begins = range(0, last, CHUNK)

        def ask(number: int) -> "asyncio.Task[list[asyncpg.Record]]":
            begin = begins[number]
            return asyncio.create_task(views[number % len(views)].packed(begin, begin + CHUNK))

        coming = deque(ask(n) for n in range(min(len(views), len(begins))))
        try:
            for number in range(len(begins)):
                rows = await coming.popleft()
                if number + len(views) < len(begins):
                    coming.append(ask(number + len(views)))
                yield [r[0] for r in rows]
        finally:
            for task in coming:
                task.cancel()


_USES: Final = [*PAYMENT_TYPES, *BODY_TYPES]
_BUNDLES: Final = [bundle_type(t) for t in BODY_TYPES]
_BUNDLES_CHUNK: Final = 100


def _entry(row: asyncpg.Record) -> Entry:
    use = Use(
        kind=Kind(row["kind"]),
        customer_id=row["customer_id"],
        partner_id=row["partner_id"],
        consent_id=row["consent_id"],
        consent_version=row["consent_version"],
        recipient=row["recipient"],
        purpose=row["purpose"],
        legal_basis=row["legal_basis"],
        what=row["what"],
        reference=row["reference"],
        occurred_at=row["occurred_at"],
    )
    return Entry(
        row["seq"], row["source_tx"], row["source_id"], row["content_hash"], row["entry_hash"], row["salt"], use
    )
