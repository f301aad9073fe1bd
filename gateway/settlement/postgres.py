"""Clearing records and breaks in PostgreSQL."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from asyncpg import Connection, Record

from gateway.database.queries import load
from gateway.payments.postgres import payment_of
from gateway.payments.rules.payment import Payment, PaymentKey
from gateway.settlement.rules import Break, BreakKind, StoredRecord
from gateway.settlement.store import NO_OUTCOMES, Outcome
from schemas.clearing import ClearingKind, ClearingRecord
from schemas.primitives import MerchantId, NetworkId

_SQL = load(__name__, "clearing")

CLEARING_COLUMNS = (
    *("network_id", "cycle_id", "created_at"),
    *("record_no", "kind", "rrn", "stan", "terminal_id", "acceptor_id", "amount_minor", "currency"),
    *("partner_id", "payment_id", "break_kind", "break_detail"),
)


class PostgresClearingStore:
    """Implements :class:`gateway.settlement.store.ClearingStore` on one connection."""

    def __init__(self, connection: "Connection[Any]") -> None:
        self._connection = connection

    async def payments_by_rrn(self, network_id: NetworkId, rrns: Sequence[str]) -> Mapping[str, Payment]:
        rows = await self._connection.fetch(_SQL.payments_by_rrn, network_id, rrns)
        return {row["rrn"]: payment_of(row) for row in rows}

    async def acceptors(self, merchant_ids: Sequence[MerchantId]) -> Mapping[MerchantId, frozenset[str]]:
        rows = await self._connection.fetch(_SQL.acceptors, merchant_ids)
        return {MerchantId(r["merchant_id"]): frozenset(r["acceptors"]) for r in rows}

    async def add(
        self,
        network_id: NetworkId,
        cycle_id: str,
        records: Sequence[ClearingRecord],
        *,
        created_at: datetime,
        outcomes: Mapping[int, Outcome] = NO_OUTCOMES,
    ) -> None:
        if not records:
            return
        # In the order of their numbers, so that two imports can never wait for each other.
        new = sorted(records, key=lambda r: r.record_no)
        of_each = [outcomes.get(r.record_no, (None, None)) for r in new]
        rows = zip(*_columns(new), *_outcome_columns(of_each), strict=True)
        await self._connection.copy_records_to_table(
            "clearing_record",
            columns=CLEARING_COLUMNS,
            records=[(network_id, cycle_id, created_at, *row) for row in rows],
        )

    async def lock(self, network_id: NetworkId, cycle_id: str, numbers: Sequence[int]) -> Mapping[int, StoredRecord]:
        rows = await self._connection.fetch(_SQL.lock, network_id, cycle_id, numbers)
        return {
            r["record_no"]: StoredRecord(
                record=_record(r),
                created_at=r["created_at"],
                payment=(r["partner_id"], r["payment_id"]) if r["payment_id"] else None,
                found=Break(BreakKind(r["break_kind"]), r["break_detail"]) if r["break_kind"] else None,
            )
            for r in rows
        }

    async def earlier(
        self, network_id: NetworkId, cycle_id: str, numbers: Sequence[int]
    ) -> Mapping[int, Sequence[ClearingRecord]]:
        found: dict[int, list[ClearingRecord]] = {}
        for row in await self._connection.fetch(_SQL.earlier, network_id, cycle_id, numbers):
            found.setdefault(row["record_no"], []).append(_record(row))
        return found

    async def supersede(
        self,
        network_id: NetworkId,
        cycle_id: str,
        records: Sequence[ClearingRecord],
        *,
        created_at: datetime,
        now: datetime,
    ) -> None:
        numbers = [r.record_no for r in records]
        await self._connection.execute(_SQL.put_aside, network_id, cycle_id, numbers, now)
        await self._connection.execute(_SQL.supersede, network_id, cycle_id, *_columns(records), created_at, now)

    async def confirm(
        self, network_id: NetworkId, cycle_id: str, numbers: Sequence[int], *, created_at: datetime
    ) -> None:
        await self._connection.execute(_SQL.confirm, network_id, cycle_id, numbers, created_at)

    async def moved_since(self, limit: int) -> Sequence[tuple[NetworkId, str, ClearingRecord]]:
        rows = await self._connection.fetch(_SQL.moved_since, limit)
        return [
            (
                r["network_id"],
                r["cycle_id"],
                _record(r),
            )
            for r in rows
        ]

    async def write_outcomes(
        self,
        network_id: NetworkId,
        cycle_id: str,
        outcomes: Sequence[tuple[int, PaymentKey | None, Break | None]],
    ) -> None:
        await self._connection.execute(
            _SQL.write_outcomes,
            network_id,
            cycle_id,
            [number for number, _, _ in outcomes],
            *_outcome_columns([(key, found) for _, key, found in outcomes]),
        )


def _outcome_columns(outcomes: Sequence[Outcome]) -> tuple[list[Any], ...]:
    return (
        [key and key[0] for key, _ in outcomes],
        [key and key[1] for key, _ in outcomes],
        [found and found.kind.value for _, found in outcomes],
        [found and found.detail for _, found in outcomes],
    )


def _columns(records: Sequence[ClearingRecord]) -> tuple[list[Any], ...]:
    return (
        [r.record_no for r in records],
        [r.kind.value for r in records],
        [r.rrn for r in records],
        [r.stan for r in records],
        [r.terminal_id for r in records],
        [r.acceptor_id for r in records],
        [r.amount_minor for r in records],
        [r.currency for r in records],
    )


def _record(row: Record) -> ClearingRecord:
    return ClearingRecord(
        record_no=row["record_no"],
        kind=ClearingKind(row["kind"]),
        rrn=row["rrn"],
        stan=row["stan"],
        terminal_id=row["terminal_id"],
        acceptor_id=row["acceptor_id"],
        amount_minor=row["amount_minor"],
        currency=row["currency"],
    )
