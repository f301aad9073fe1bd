"""A database in memory with PostgreSQL's rules at READ COMMITTED, as far as the gateway leans on them.

Statements see what is committed and what their own transaction wrote. Row locks and keys being inserted make others
wait. Sequences never go back. Everything is deterministic: the same calls in the same order end the same way.
"""

from bisect import bisect_right, insort
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from gateway.base.errors import StoreIntegrityError
from gateway.base.keys import ConsentKey
from gateway.consents.rules.consent import Consent
from gateway.consents.rules.limits import Usage, UsageKey
from gateway.consents.rules.records import CommandKey, ConsentVersion, HandledCommand
from gateway.consents.store import PurposeEndRow
from gateway.directory.merchants import Merchant
from gateway.disclosure.rules.destruction import Destruction
from gateway.disclosure.rules.entry import Entry
from gateway.disclosure.rules.notices import CustomerOfPartner
from gateway.disclosure.rules.sequence import Head
from gateway.disclosure.store import Evidence
from gateway.identity.refusals import Refusal
from gateway.identity.store import AssertionUse
from gateway.orders.bulk.rules import Bulk, BulkKey
from gateway.orders.standing.rules import StandingKey, StandingOrder
from gateway.outbox.bundles import bundled, members_of
from gateway.outbox.store import OutboxEvent, OutboxRow
from gateway.payments.archive.store import ArchiveFile
from gateway.payments.cancellations.rules import CancellationKey, HandledCancellation
from gateway.payments.rules.ledger import TransferKind
from gateway.payments.rules.payment import Payment, PaymentKey
from gateway.payments.unknown.store import LateAnswer
from gateway.portability.rules.records import Export, GoneRequest, Recipient, RequestKey, StoredRequest
from gateway.proving.memory.locks import Locks, Strength
from gateway.proving.memory.tables import (
    ClearingRow,
    ConsentMark,
    FollowUpRow,
    K,
    MarketingTables,
    NetworkReport,
    Posted,
    ScheduledRow,
    SharingTables,
    Table,
    TokenRow,
    V,
)
from schemas.codec import encode
from schemas.consent_commands import canonical_terms, terms_digest
from schemas.consents import Purpose
from schemas.disclosure import RootStatement
from schemas.primitives import ConsentId, CustomerId, FundingToken, MerchantId, NetworkId, PartnerId

Written = Mapping[str, Mapping[Any, Any]]
"""What a transaction wrote: table → key → row."""


def _place(row: OutboxRow) -> tuple[int, int]:
    return (row.tx, row.id)


class Database:
    """Committed state, shared by every worker's :class:`gateway.proving.memory.store.MemoryStore`.

    Attributes:
        on_commit: told what each commit writes, rows and events, right before it becomes visible: for auditors.
    """

    def __init__(self) -> None:  # noqa: PLR0915 - one a table
        self.on_commit: Callable[[Written, Sequence[OutboxRow]], None] | None = None
        self.consents: Table[ConsentKey, Consent] = Table("consent")
        self.consent_marks: Table[ConsentKey, ConsentMark] = Table("consent_mark")
        self.consent_versions: Table[tuple[ConsentKey, int], ConsentVersion] = Table("consent_version")
        self.purpose_ends: Table[tuple[ConsentKey, int, Purpose], PurposeEndRow] = Table("consent_purpose_end")
        self.recipients: Table[str, Recipient] = Table("recipient")
        self.transmissions: Table[RequestKey, StoredRequest] = Table("portability_request")
        self.transmissions_gone: Table[RequestKey, GoneRequest] = Table("portability_request_gone", append_only=True)
        self.destructions: Table[int, Destruction] = Table("data_destruction", append_only=True)
        self.certificates: Table[str, str] = Table("recipient_certificate")
        self.accesses: Table[tuple[PartnerId, ConsentId, str], datetime] = Table("portability_access")
        self.exports: Table[tuple[PartnerId, str, int], Export] = Table("portability_export")
        self.consent_commands: Table[CommandKey, HandledCommand] = Table("consent_command")
        self.usage: Table[UsageKey, Usage] = Table("consent_usage")
        self.payments: Table[PaymentKey, Payment] = Table("payment")
        self.archived: Table[PaymentKey, Payment] = Table("archived_payment", append_only=True)
        self.archive_files: Table[int, ArchiveFile] = Table("archive_file")
        self.archived_in: Table[PaymentKey, int] = Table("archived_in", append_only=True)
        self.rrns: Table[tuple[NetworkId, str], PaymentKey] = Table("payment_rrn")
        self.transfers: Table[tuple[PaymentKey, TransferKind, int], Posted] = Table("ledger_transfer", append_only=True)
        self.refusals: Table[tuple[PartnerId, str], Refusal] = Table("refusal")
        self.reversals: Table[PaymentKey, FollowUpRow] = Table("reversal")
        self.inquiries: Table[PaymentKey, FollowUpRow] = Table("inquiry")
        self.late_answers: Table[int, LateAnswer] = Table("late_answer", append_only=True)
        self.scheduled: Table[PaymentKey, ScheduledRow] = Table("scheduled_order")
        self.cancellations: Table[CancellationKey, HandledCancellation] = Table("cancellation")
        self.cancellation_answers: Table[tuple[PartnerId, str], bool] = Table("cancellation_answer", append_only=True)
        self.standing: Table[StandingKey, StandingOrder] = Table("standing_order")
        self.bulks: Table[BulkKey, Bulk] = Table("bulk")
        self.clearing: Table[tuple[NetworkId, str, int], ClearingRow] = Table("clearing_record")
        self.clearing_superseded: Table[tuple[NetworkId, str, int, int], ClearingRow] = Table(
            "clearing_superseded", append_only=True
        )
        self.merchants: Table[MerchantId, Merchant] = Table("merchant")
        self.former_acceptors: dict[MerchantId, set[str]] = {}
        self.tokens: Table[FundingToken, TokenRow] = Table("funding_token")
        self.identity_links: Table[tuple[str, str], CustomerId] = Table("identity_link")
        self.used_assertions: Table[tuple[str, str], AssertionUse] = Table("used_assertion")
        self.authenticated_at: Table[ConsentKey, datetime] = Table("consent_authentication")
        self.sharing = SharingTables()
        self.network_status: Table[tuple[NetworkId, str], NetworkReport] = Table("network_status")
        self.network_pauses: Table[NetworkId, bool] = Table("network_pause")
        self.marketing = MarketingTables()
        self.outbox: list[OutboxRow] = []
        self.outbox_cursor: tuple[int, int] = (0, 0)
        self.outbox_parked: dict[tuple[int, int], tuple[OutboxRow, str]] = {}
        self.outbox_leader: object | None = None
        # Whether the last to move the relay's cursor, and the log's head, was of this release.
        self.relay_reads_bundles = self.log_reads_bundles = False
        self.disclosure_head = Head()
        self.disclosure_entries: list[Entry] = []
        self.disclosures_destroyed: Table[int, Evidence] = Table("disclosure_destruction", append_only=True)
        self.notices: Table[tuple[PartnerId, CustomerId], CustomerOfPartner] = Table("disclosure_notice")
        self.notice_cursor: Table[int, int] = Table("disclosure_notice_cursor")
        self.disclosure_blocks: dict[int, bytes] = {}
        self.disclosure_roots: list[tuple[RootStatement, str]] = []
        self.disclosure_leader: object | None = None
        self.locks = Locks()
        self._sequences: dict[str, int] = {}
        self._last_tx = 0
        self._last_ended_tx = 0
        self._open: set[int] = set()

    # --- what tests and provisioning write at once ---

    def put_consent(self, consent: Consent) -> None:
        """Write a consent, committed; its terms as if they had been sent as the gateway writes them."""
        key = (consent.terms.partner_id, consent.terms.consent_id)
        text = canonical_terms(encode(consent.terms))
        since = consent.terms.valid_from
        self.consents.rows[key] = consent
        self.consent_marks.rows.setdefault(key, ConsentMark(0, since))
        self.consent_versions.rows[key, consent.version] = ConsentVersion(
            key, consent.version, text, terms_digest(text), since
        )

    def put_merchant(self, merchant: Merchant) -> None:
        """Write a merchant, committed."""
        if (before := self.merchants.rows.get(merchant.merchant_id)) is not None:
            self.former_acceptors.setdefault(merchant.merchant_id, set()).add(before.acceptor.acceptor_id)
        self.merchants.rows[merchant.merchant_id] = merchant

    def acceptors_of(self, merchant_id: MerchantId) -> frozenset[str]:
        """Acceptor ids of a merchant, of now and of before; none of one who is not known."""
        if (row := self.merchants.rows.get(merchant_id)) is None:
            return frozenset()
        return frozenset({row.acceptor.acceptor_id, *self.former_acceptors.get(merchant_id, ())})

    def put_token(self, token: str, customer_id: str, *partners: str) -> None:
        """Write a funding token with the partners that may use it, committed."""
        row = TokenRow(CustomerId(customer_id), frozenset(map(PartnerId, partners)))
        self.tokens.rows[FundingToken(token)] = row

    # --- transactions ---

    def next_numbers(self, sequence: str, count: int) -> range:
        """Take ``count`` numbers, from 1, of a sequence; no rollback gives them back."""
        first = self._sequences.get(sequence, 0) + 1
        self._sequences[sequence] = first + count - 1
        return range(first, first + count)

    def begin(self, *, read_only: bool = False) -> "Transaction":
        """Begin a transaction; its caller ends it with ``commit`` or ``rollback``."""
        return Transaction(self, read_only=read_only)

    def number_transaction(self) -> int:
        """Give out a transaction number: in order of first writes or locks, as PostgreSQL does."""
        self._last_tx += 1
        self._open.add(self._last_tx)
        return self._last_tx

    def end_transaction(self, number: int) -> None:
        """Note that a numbered transaction has ended, either way."""
        self._open.remove(number)
        self._last_ended_tx = max(self._last_ended_tx, number)
        self.locks.release_all(number)

    def outbox_place(self, own_tx: int) -> int:
        """Where an event stands: behind those of every transaction that had ended when it was appended."""
        return max(own_tx, self._last_ended_tx)

    def commit_outbox(self, rows: Iterable[OutboxRow]) -> None:
        """Add a transaction's events in their places."""
        for row in rows:
            insort(self.outbox, row, key=_place)

    def outbox_horizon(self) -> int:
        """The least place that an event may still come to stand in."""
        return min(self._open, default=self._last_tx + 1)

    def read_outbox(
        self, after: tuple[int, int], limit: int, *, told: Collection[int] = (), certain_only: bool = True
    ) -> list[OutboxRow]:
        """Committed rows past ``after``; ``certain_only``: before the places that a running transaction may still take.

        Those whose numbers were ``told`` are left out.
        """
        horizon = self.outbox_horizon()
        start = bisect_right(self.outbox, after, key=_place)
        wanted = (
            row
            for row in islice(self.outbox, start, None)
            if row.id not in told and (not certain_only or row.tx < horizon)
        )
        return list(islice(wanted, limit))


class Transaction:
    """One open transaction: what it wrote, over what is committed."""

    def __init__(self, database: Database, *, read_only: bool) -> None:
        self.database = database
        self._read_only = read_only
        self._number: int | None = None
        self._written: dict[str, tuple[Table[Any, Any], dict[Any, Any]]] = {}
        self._outbox: list[OutboxRow] = []
        self._is_open = True

    @property
    def is_open(self) -> bool:
        """False once committed or rolled back."""
        return self._is_open

    def get(self, table: Table[K, V], key: K) -> V | None:
        """The row as this transaction sees it now."""
        written = self._written.get(table.name)
        if written is not None and key in written[1]:
            row: V = written[1][key]
            return row
        return table.rows.get(key)

    def items(self, table: Table[K, V]) -> Iterator[tuple[K, V]]:
        """Every row as this transaction sees it now, in order of insertion."""
        _, written = self._written.get(table.name, (table, {}))
        for key, row in list(table.rows.items()):
            now = written.get(key, row)
            if now is not None:
                yield key, now
        for key, row in list(written.items()):
            if key not in table.rows and row is not None:
                yield key, row

    async def lock(
        self, table: Table[K, V], keys: Iterable[K], strength: Strength = Strength.NO_KEY_UPDATE
    ) -> dict[K, V]:
        """Lock the rows that are visible now, in the order of their keys; return them as they are then."""
        visible = sorted(k for k in set(keys) if self.get(table, k) is not None)  # type: ignore[type-var]
        locked: dict[K, V] = {}
        for key in visible:
            await self.database.locks.acquire(self._writer(), (table.name, key), strength)
            row = self.get(table, key)
            if row is not None:
                locked[key] = row
        return locked

    def try_lock(self, table: Table[K, V], key: K, strength: Strength = Strength.NO_KEY_UPDATE) -> bool:
        """Lock one row unless another transaction's lock hinders that."""
        return self.database.locks.try_acquire(self._writer(), (table.name, key), strength)

    async def insert(self, table: Table[K, V], key: K, row: V) -> bool:
        """Insert unless the key exists (False). Waits for a transaction that is inserting the same key."""
        if self.get(table, key) is not None:
            return False
        await self.database.locks.acquire(self._writer(), (table.name, key))
        if self.get(table, key) is not None:
            return False
        self._write(table, key, row)
        return True

    def update(self, table: Table[K, V], key: K, row: V) -> None:
        """Replace a row that this transaction has locked or inserted.

        Raises:
            StoreIntegrityError: the table is append-only.
        """
        if table.append_only:
            raise StoreIntegrityError(f"{table.name} is append-only")
        if not self.try_lock(table, key):
            raise AssertionError(f"{table.name}: a row is changed that another transaction has locked")
        self._write(table, key, row)

    def delete(self, table: Table[K, V], key: K) -> None:
        """Delete a row that this transaction has locked."""
        if not self.try_lock(table, key, Strength.UPDATE):
            raise AssertionError(f"{table.name}: a row is deleted that another transaction has locked")
        self._write(table, key, None)

    def append(self, events: Sequence[OutboxEvent], *, bundling: bool = False) -> None:
        """Add events to the outbox."""
        place = self.database.outbox_place(self._writer())
        numbers = self.database.next_numbers("outbox", len(events))
        rows = bundled(events, numbers) if bundling else zip(numbers, events, strict=True)
        self._outbox += [OutboxRow(tx=place, id=number, event=event) for number, event in rows]

    def commit(self) -> None:
        """Make everything visible at once, then let the waiting go on."""
        if self.database.on_commit is not None:
            told = [OutboxRow(r.tx, number, event) for r in self._outbox for number, event in members_of(r.id, r.event)]
            self.database.on_commit({name: rows for name, (_, rows) in self._written.items()}, told)
        for table, written in self._written.values():
            table.rows.update(written)
            for key in [k for k, row in written.items() if row is None]:
                del table.rows[key]
        self.database.commit_outbox(self._outbox)
        self._end()

    def rollback(self) -> None:
        """Forget everything but the numbers that were taken from sequences."""
        self._end()

    def _write(self, table: Table[K, V], key: K, row: V | None) -> None:
        self._writer()
        self._written.setdefault(table.name, (table, {}))[1][key] = row

    def _writer(self) -> int:
        if self._read_only:
            raise AssertionError("reading() is for advice: it neither locks nor writes")
        if not self._is_open:
            raise AssertionError("the transaction has ended")
        if self._number is None:
            self._number = self.database.number_transaction()
        return self._number

    def _end(self) -> None:
        self._is_open = False
        if self._number is not None:
            self.database.end_transaction(self._number)
