"""The disclosure log in memory: the sequencer's side."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from gateway.base.errors import StoreConflictError, StoreUnavailableError
from gateway.disclosure.rules.sequence import Head, Step, of_text, text_of
from gateway.disclosure.rules.uses import (
    BODY_TYPES,
    PAYMENT_TYPES,
    PaymentFacts,
    SourceRow,
    consent_of,
    facts_of,
    told_by,
    use_of,
)
from gateway.disclosure.rules.verification import Destroyed, Finding, SignedRoot, Verification, pack_row
from gateway.disclosure.signing import RootVerifier
from gateway.disclosure.store import Read
from gateway.outbox.bundles import logged_of
from gateway.outbox.store import OutboxEvent, OutboxRow
from gateway.payments.rules.payment import Payment
from gateway.proving.memory.boundary import Boundary, no_boundary
from gateway.proving.memory.database import Database
from schemas.codec import decode, encode
from schemas.disclosure import RootStatement
from schemas.primitives import ConsentId, PartnerId, PaymentId, decimal_of

_EVENTS_TOPIC = "mypay.events."


class MemoryDisclosureLog:
    """Implements :class:`gateway.disclosure.store.DisclosureLog`.

    The lead is held until ``release`` or ``lose_session``; ``lose_lead`` gives it away while the session goes on, as a
    server does that was failed over, or a pooler: then only the head keeps two apart.
    """

    def __init__(self, database: Database, boundary: Boundary = no_boundary) -> None:
        self._db = database
        self._boundary = boundary
        self._connected = False

    async def acquire(self) -> bool:
        await self._boundary("disclosure.acquire")
        await self.release()
        if self._db.disclosure_leader is not None:
            return False
        self._db.disclosure_leader, self._connected = self, True
        return True

    async def head(self) -> Head:
        await self._boundary("disclosure.head")
        self._refuse_unless_connected()
        return self._db.disclosure_head

    async def read(self, after: tuple[int, int], limit: int) -> Read:
        await self._boundary("disclosure.read")
        self._refuse_unless_connected()
        rows = self._db.read_outbox(after, limit)
        sources: list[SourceRow] = []
        is_full = len(rows) == limit
        for row in rows:
            held = [
                self._source(row, number, event)
                for number, event in logged_of(row.id, row.event)
                if event.event_type in PAYMENT_TYPES or event.event_type in BODY_TYPES
            ]
            if sources and len(sources) + len(held) > limit:
                is_full = True
                break
            sources += held
            after = (row.tx, row.id)
        uses = [(source.tx, source.id, use) for source in sources if (use := use_of(source)) is not None]
        return Read(uses, after, is_full=is_full)

    async def write(self, step: Step, publish: Sequence[OutboxEvent] = (), statement: str = "") -> None:
        await self._boundary("disclosure.write")
        self._refuse_unless_connected()
        db = self._db
        if db.disclosure_head != step.before:
            raise StoreConflictError("another sequencer has moved the head")
        db.disclosure_head, db.log_reads_bundles = step.after, True
        db.disclosure_entries.extend(step.entries)
        db.disclosure_blocks.update(step.blocks)
        if step.root is not None:
            db.disclosure_roots.append((step.root, statement))
        transaction = db.begin()
        transaction.append(publish)
        transaction.commit()
        await self._boundary("disclosure.written")

    async def release(self) -> None:
        self.lose_session()

    def lose_session(self) -> None:
        """End the session, as a crash or a restarted server does."""
        self._connected = False
        self.lose_lead()

    def lose_lead(self) -> None:
        """Let another lead, and go on."""
        if self._db.disclosure_leader is self:
            self._db.disclosure_leader = None

    def _refuse_unless_connected(self) -> None:
        if not self._connected:
            raise StoreUnavailableError("the session that held the lead is gone")

    def _source(self, row: OutboxRow, number: int, event: OutboxEvent) -> SourceRow:
        partner_id = PartnerId(event.topic.removeprefix(_EVENTS_TOPIC))
        payment: PaymentFacts | None = None
        told: Mapping[str, Any] | None = None
        consent: tuple[PartnerId, ConsentId] | None = None
        if event.event_type in PAYMENT_TYPES:
            payment = facts_of(event.event_type, event.topic, event.key, event.body)
            if payment is None and (found := self._payment(partner_id, event.key)) is not None:
                payment = _facts(found)
            if payment is not None:
                consent = (PartnerId(payment.partner_id), ConsentId(payment.consent_id))
        else:
            told = told_by(event.body)
            if (named := consent_of(told)) is not None:
                consent = (PartnerId(named[0]), ConsentId(named[1]))
        held = None if consent is None else self._db.consents.rows.get(consent)
        return SourceRow(
            tx=row.tx,
            id=number,
            event_type=event.event_type,
            event_id=event.event_id,
            occurred_at=event.occurred_at,
            payment=payment,
            told=told,
            customer_id=None if held is None else held.terms.customer_id,
        )

    def _payment(self, partner_id: PartnerId, key: str) -> Payment | None:
        try:
            payment_id = PaymentId(UUID(key))
        except ValueError:
            return None
        return self._db.payments.rows.get((partner_id, payment_id))


def _facts(payment: Payment) -> PaymentFacts:
    return PaymentFacts(
        partner_id=payment.partner_id,
        payment_id=str(payment.payment_id),
        consent_id=payment.consent_id,
        consent_version=payment.consent_version,
        merchant_id=payment.merchant_id,
        operation=payment.operation.value,
        amount=decimal_of(payment.amount_minor, payment.currency),
        currency=payment.currency,
        network_id=payment.network_id,
        was_sent=payment.trace is not None,
    )


class RootMarks:
    """Signs roots, and reads them, without a key: the same root has the same statement in every run."""

    def sign(self, root: RootStatement) -> str:
        """The statement, unsigned."""
        return f"none.{text_of(encode(root))}.none"

    def read(self, statement: str) -> RootStatement | None:
        """What a statement says."""
        return decode(RootStatement, of_text(statement.split(".")[1]))


ROOT_MARKS: Final = RootMarks()


def verified(database: Database, verifier: RootVerifier | RootMarks) -> tuple[int, list[Finding]]:
    """How many entries the whole log has, verified as a real one is, and what is wrong with it."""
    roots = [SignedRoot(r.number, statement, verifier.read(statement)) for r, statement in database.disclosure_roots]
    verification = Verification(roots, database.disclosure_blocks)
    destroyed = list(database.disclosures_destroyed.rows.values())
    gone = max((d.last_seq for d in destroyed), default=0)
    verification.feed(
        pack_row(
            e.seq,
            (e.source_tx, e.source_id),
            e.content_hash,
            e.entry_hash,
            b"" if e.seq <= gone else e.salt + e.use.content().encode(),
        )
        for e in database.disclosure_entries
    )
    evidence = [Destroyed(d.first_seq, d.last_seq, d.digest) for d in destroyed]
    verification.finish(database.disclosure_head, evidence)
    return verification.entries, verification.findings
