"""Payments and their ledger transfers in PostgreSQL."""

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from asyncpg import Connection, Record

from gateway.base.errors import StoreIntegrityError
from gateway.base.keys import ConsentKey
from gateway.consents.rules.limits import WindowKey
from gateway.database.queries import load
from gateway.network.exchange import Operation, TraceNumbers
from gateway.payments.rules.ledger import Transfer
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import Payment, PaymentKey
from gateway.payments.unknown.store import LateAnswer
from schemas.primitives import NetworkId, PaymentId
from schemas.reasons import Reason, ReasonCode

_SQL = load(__name__, "payment")

LATE_COLUMNS = (
    "network_id",
    "received_at",
    "mti",
    "terminal_id",
    "stan",
    "transmitted_at",
    "rrn",
    "response_code",
    "approval_code",
    "amount_minor",
    "partner_id",
    "payment_id",
    "outcome",
)
PAYMENT_COLUMNS = (
    *("partner_id", "payment_id", "order_id", "consent_id", "consent_version", "merchant_id", "operation"),
    *("amount_minor", "currency", "funding_token", "order_digest", "state", "version", "reason_code", "reason_text"),
    *("network_code", "network_id", "terminal_id", "stan", "rrn", "transmitted_at", "approval_code", "limit_windows"),
    *("ordered_at", "decided_at", "changed_at", "traceparent", "sent_by", "original_payment_id"),
)
TRANSFER_COLUMNS = (
    *("partner_id", "payment_id", "kind", "debit", "credit", "amount_minor", "currency", "posted_at", "round"),
)


NUMBERS_AT_ONCE: Final = 1_000
"""Payment numbers that a process takes from the sequence at a time. What it has not used when it ends is never used."""


WINDOWS_KEPT: Final = 16_384
"""Windows that are remembered as they are written: all payments of a month share its window, a consent's its own."""


class PaymentNumbers:
    """Numbers that a process has taken for payments to come, in transactions that have committed; each is given once.

    Before the commit a server that takes over may not know that they were taken, and give them again.
    """

    def __init__(self) -> None:
        self._left: deque[int] = deque()

    def take(self, count: int) -> Sequence[int]:
        """So many, or all where there are fewer."""
        return [self._left.popleft() for _ in range(min(count, len(self._left)))]

    def take_all(self) -> Sequence[int]:
        """All that there are."""
        return self.take(len(self._left))

    def add(self, numbers: Sequence[int]) -> None:
        """These came from the sequence."""
        self._left.extend(numbers)


class PostgresPaymentStore:
    """Implements :class:`gateway.payments.store.PaymentStore` on one connection."""

    def __init__(self, connection: "Connection[Any]", numbers: PaymentNumbers | None = None) -> None:
        self._connection = connection
        self._kept_numbers = numbers or PaymentNumbers()
        self._taken_numbers = PaymentNumbers()

    async def find(self, keys: Sequence[PaymentKey]) -> Mapping[PaymentKey, Payment]:
        return await self._fetch(_SQL.find, keys)

    async def lock(
        self, keys: Sequence[PaymentKey], *, known: Mapping[PaymentKey, Payment] | None = None
    ) -> Mapping[PaymentKey, Payment]:
        if not known:
            return await self._fetch(_SQL.lock, keys)
        same: dict[PaymentKey, Payment] = {}
        other: list[PaymentKey] = []
        for row in await self._connection.fetch(_SQL.lock_versions, *_columns(keys)):
            key = (row["partner_id"], row["payment_id"])
            payment = known.get(key)
            if payment is not None and payment.version == row["version"]:
                same[key] = payment
            else:
                other.append(key)
        # The locks are held: these rows cannot change between the two statements.
        return {**same, **(await self.find(other))} if other else same

    async def _fetch(self, sql: str, keys: Sequence[PaymentKey]) -> Mapping[PaymentKey, Payment]:
        rows = await self._connection.fetch(sql, *_columns(keys))
        return {p.key: p for p in map(payment_of, rows)}

    async def insert(self, payments: Sequence[Payment]) -> frozenset[PaymentKey]:
        if not payments:
            return frozenset()
        columns = zip(*map(_row, payments), strict=True)
        rows = await self._connection.fetch(_SQL.insert, *map(list, columns))
        return frozenset((r["partner_id"], r["payment_id"]) for r in rows)

    async def add(self, payments: Sequence[Payment]) -> None:
        if payments:
            await self._connection.copy_records_to_table(
                "payment", columns=PAYMENT_COLUMNS, records=map(_row, payments)
            )

    async def update(self, payments: Sequence[Payment]) -> None:
        if not payments:
            return
        reasons = [p.reason for p in payments]
        await self._connection.execute(
            _SQL.update,
            *_columns([p.key for p in payments]),
            [p.state.value for p in payments],
            [p.version for p in payments],
            [r and r.code.value for r in reasons],
            [r and r.text for r in reasons],
            [r and r.network_code for r in reasons],
            [p.approval_code for p in payments],
            [p.changed_at for p in payments],
        )

    async def begin_scheduled(self, payments: Sequence[Payment]) -> None:
        if not payments:
            return
        columns = zip(*map(_begun, payments), strict=True)
        rows = await self._connection.fetch(_SQL.begin_scheduled, *map(list, columns))
        if len(rows) != len(payments):
            raise StoreIntegrityError("scheduled payment")

    async def in_flight(self, consents: Sequence[ConsentKey]) -> Mapping[ConsentKey, Sequence[PaymentId]]:
        found: dict[ConsentKey, list[PaymentId]] = {}
        if consents:
            rows = await self._connection.fetch(_SQL.in_flight, [c[0] for c in consents], [c[1] for c in consents])
            for row in rows:
                found.setdefault((row["partner_id"], row["consent_id"]), []).append(row["payment_id"])
        return found

    async def refunded(self, originals: Sequence[PaymentKey]) -> Mapping[PaymentKey, int]:
        if not originals:
            return {}
        rows = await self._connection.fetch(_SQL.refunded, *_columns(originals))
        return {(r["partner_id"], r["original_payment_id"]): r["minor"] for r in rows}

    async def next_payment_numbers(self, count: int) -> Sequence[int]:
        # A transaction that fails gives none of them back: they are lost, as a sequence's always are.
        given = [*self._kept_numbers.take(count)]
        given += self._taken_numbers.take(count - len(given))
        if missing := count - len(given):
            more = await self._numbers(_SQL.next_payment_numbers, max(missing, NUMBERS_AT_ONCE))
            given += more[:missing]
            self._taken_numbers.add(more[missing:])
        return given

    def keep_numbers(self) -> None:
        """The transaction has committed: those that it took and did not need are the process's from now on."""
        self._kept_numbers.add(self._taken_numbers.take_all())

    async def next_follow_up_numbers(self, count: int) -> Sequence[int]:
        return await self._numbers(_SQL.next_follow_up_numbers, count)

    async def _numbers(self, sql: str, count: int) -> Sequence[int]:
        return [row[0] for row in await self._connection.fetch(sql, count)] if count else ()

    async def insert_transfers(self, transfers: Sequence[tuple[PaymentKey, Transfer, datetime]]) -> None:
        if not transfers:
            return
        await self._connection.copy_records_to_table(
            "ledger_transfer",
            columns=TRANSFER_COLUMNS,
            records=[
                # Without a round the database counts it, at twice the cost of the row itself.
                (
                    *key,
                    t.kind.value,
                    t.debit,
                    t.credit,
                    t.amount_minor,
                    t.currency,
                    posted_at,
                    None if t.repeated else 0,
                )
                for key, t, posted_at in transfers
            ],
        )

    async def abandoned(
        self, network_id: NetworkId, *, alive_since: datetime, sent_before: datetime, limit: int
    ) -> Sequence[PaymentKey]:
        rows = await self._connection.fetch(_SQL.abandoned, network_id, alive_since, sent_before, limit)
        return [(r["partner_id"], r["payment_id"]) for r in rows]

    async def open_since(self) -> Mapping[tuple[PaymentState, NetworkId], tuple[int, datetime]]:
        rows = await self._connection.fetch(_SQL.open_since)
        return {(PaymentState(r["state"]), r["network_id"]): (r["count"], r["since"]) for r in rows}

    async def keys_by_rrn(self, network_id: NetworkId, rrns: Sequence[str]) -> Mapping[str, PaymentKey]:
        rows = await self._connection.fetch(_SQL.keys_by_rrn, network_id, rrns)
        return {r["rrn"]: (r["partner_id"], r["payment_id"]) for r in rows}

    async def note_late_answers(self, answers: Sequence[LateAnswer]) -> None:
        if answers:
            rows = [_late_row(a) for a in answers]
            await self._connection.copy_records_to_table("late_answer", columns=LATE_COLUMNS, records=rows)


def _columns(keys: Sequence[PaymentKey]) -> tuple[list[Any], list[Any]]:
    return [k[0] for k in keys], [k[1] for k in keys]


def _row(p: Payment) -> tuple[Any, ...]:
    reason, trace = p.reason, p.trace
    return (
        p.partner_id,
        p.payment_id,
        p.order_id,
        p.consent_id,
        p.consent_version,
        p.merchant_id,
        p.operation.value,
        p.amount_minor,
        p.currency,
        p.funding_token,
        p.order_digest,
        p.state.value,
        p.version,
        reason and reason.code.value,
        reason and reason.text,
        reason and reason.network_code,
        p.network_id,
        trace and trace.terminal_id,
        trace and trace.stan,
        trace and trace.rrn,
        trace and trace.transmitted_at,
        p.approval_code,
        _write_windows(p.windows),
        p.ordered_at,
        p.decided_at,
        p.changed_at,
        p.traceparent,
        p.sent_by,
        p.original_payment_id,
    )


def _begun(p: Payment) -> tuple[Any, ...]:
    reason, trace = p.reason, p.trace
    return (
        *p.key,
        p.consent_version,
        p.funding_token,
        p.state.value,
        p.version,
        reason and reason.code.value,
        reason and reason.text,
        reason and reason.network_code,
        p.network_id,
        trace and trace.terminal_id,
        trace and trace.stan,
        trace and trace.rrn,
        trace and trace.transmitted_at,
        _write_windows(p.windows),
        p.decided_at,
        p.changed_at,
        p.sent_by,
    )


def _late_row(late: LateAnswer) -> tuple[Any, ...]:
    unmatched, answer = late.unmatched, late.unmatched.answer
    partner_id, payment_id = late.key or (None, None)
    return (
        unmatched.network_id,
        late.received_at,
        unmatched.mti,
        unmatched.terminal_id,
        unmatched.stan,
        unmatched.transmitted_at_raw,
        answer.rrn,
        answer.response_code,
        answer.approval_code,
        answer.amount_minor,
        partner_id,
        payment_id,
        late.outcome,
    )


def payment_of(row: Record | Mapping[str, Any]) -> Payment:
    """Build a payment from a row of its table, or from one of the archive's."""
    code = row["reason_code"]
    stan = row["stan"]
    return Payment(
        partner_id=row["partner_id"],
        payment_id=row["payment_id"],
        order_id=row["order_id"],
        consent_id=row["consent_id"],
        consent_version=row["consent_version"],
        merchant_id=row["merchant_id"],
        operation=Operation(row["operation"]),
        amount_minor=row["amount_minor"],
        currency=row["currency"],
        funding_token=row["funding_token"],
        order_digest=row["order_digest"],
        state=PaymentState(row["state"]),
        version=row["version"],
        reason=code and Reason(code=ReasonCode(code), text=row["reason_text"] or "", network_code=row["network_code"]),
        network_id=row["network_id"],
        trace=None
        if stan is None
        else TraceNumbers(
            terminal_id=row["terminal_id"], stan=stan, rrn=row["rrn"], transmitted_at=row["transmitted_at"]
        ),
        approval_code=row["approval_code"],
        windows=read_windows(row["limit_windows"]),
        ordered_at=row["ordered_at"],
        decided_at=row["decided_at"],
        changed_at=row["changed_at"],
        traceparent=row["traceparent"],
        original_payment_id=row["original_payment_id"],
        sent_by=row["sent_by"],
        is_archived=row.get("is_archived", False),
    )


def _write_windows(windows: Sequence[WindowKey]) -> str:
    """Windows that a payment counts in, as one column: ``month/calendar/KRW@1761922800 …``, seconds since the epoch.

    Limit keys have no blank and no "@". A consent's own windows begin when it does, also within a second:
    ``lifetime/KRW@1761922800.000250``.
    """
    return " ".join(map(_write_window, windows))


def read_windows(text: str) -> tuple[WindowKey, ...]:
    """Inverse of :func:`_write_windows`."""
    return tuple(map(_read_window, text.split()))


@lru_cache(maxsize=WINDOWS_KEPT)
def _write_window(window: WindowKey) -> str:
    return f"{window.limit_key}@{_write_second(window.starts_at)}"


@lru_cache(maxsize=WINDOWS_KEPT)
def _read_window(item: str) -> WindowKey:
    limit_key, second = item.rsplit("@", 1)
    return WindowKey(limit_key, _read_second(second))


def _write_second(moment: datetime) -> str:
    if not moment.microsecond:
        return str(int(moment.timestamp()))
    return f"{int(moment.replace(microsecond=0).timestamp())}.{moment.microsecond:06d}"


def _read_second(text: str) -> datetime:
    second, _, microsecond = text.partition(".")
    moment = datetime.fromtimestamp(int(second), UTC)
    return moment.replace(microsecond=int(microsecond)) if microsecond else moment
