"""Cancellations of orders in PostgreSQL."""

from collections.abc import Mapping, Sequence
from typing import Any

from asyncpg import Connection, Record

from gateway.database.queries import load
from gateway.payments.cancellations.rules import CancellationKey, HandledCancellation
from gateway.payments.rules.payment import PaymentKey
from schemas.events import CancellationEffect
from schemas.primitives import ConsentId, PartnerId
from schemas.reasons import Reason, ReasonCode

_SQL = load(__name__, "cancellation")


class PostgresCancellationStore:
    """Implements :class:`gateway.payments.cancellations.store.CancellationStore` on one connection."""

    def __init__(self, connection: "Connection[Any]") -> None:
        self._connection = connection

    async def handled(self, keys: Sequence[CancellationKey]) -> Mapping[CancellationKey, HandledCancellation]:
        if not keys:
            return {}
        rows = await self._connection.fetch(_SQL.handled, [k[0] for k in keys], [k[1] for k in keys])
        return {h.key: h for h in map(_handled, rows)}

    async def remember(self, handled: Sequence[HandledCancellation]) -> frozenset[CancellationKey]:
        if not handled:
            return frozenset()
        columns = zip(*map(_row, handled), strict=True)
        rows = await self._connection.fetch(_SQL.remember, *map(list, columns))
        return frozenset((r["partner_id"], r["cancellation_id"]) for r in rows)

    async def answer(self, references: Sequence[tuple[PartnerId, str]]) -> frozenset[tuple[PartnerId, str]]:
        if not references:
            return frozenset()
        rows = await self._connection.fetch(_SQL.answer, [r[0] for r in references], [r[1] for r in references])
        return frozenset((r["partner_id"], r["reference"]) for r in rows)

    async def not_sent(self, orders: Sequence[PaymentKey]) -> Mapping[PaymentKey, frozenset[ConsentId]]:
        rows = await self._connection.fetch(_SQL.not_sent, [k[0] for k in orders], [k[1] for k in orders])
        named: dict[PaymentKey, frozenset[ConsentId]] = {}
        for row in rows:
            key = (row["partner_id"], row["payment_id"])
            named[key] = named.get(key, frozenset()) | {row["consent_id"]}
        return named

    async def lock_due(self, *, limit: int) -> Sequence[HandledCancellation]:
        return [_handled(row) for row in await self._connection.fetch(_SQL.lock_due, limit)]

    async def update(self, handled: Sequence[HandledCancellation]) -> None:
        if not handled:
            return
        outcomes = [_outcome(h) for h in handled]
        await self._connection.execute(
            _SQL.update,
            [h.partner_id for h in handled],
            [h.cancellation_id for h in handled],
            [effect for effect, _, _ in outcomes],
            [code for _, code, _ in outcomes],
            [text for _, _, text in outcomes],
            [h.is_open for h in handled],
        )


def _outcome(handled: HandledCancellation) -> tuple[str | None, str | None, str | None]:
    """Effect, reason code and reason text."""
    outcome = handled.outcome
    if isinstance(outcome, Reason):
        return None, outcome.code.value, outcome.text
    return outcome.value, None, None


def _row(h: HandledCancellation) -> tuple[Any, ...]:
    return (
        h.partner_id,
        h.cancellation_id,
        h.consent_id,
        h.order_id,
        h.payment_id,
        h.digest,
        *_outcome(h),
        h.is_open,
        h.reference,
        h.handled_at,
    )


def _handled(row: Record) -> HandledCancellation:
    code = row["reason_code"]
    return HandledCancellation(
        partner_id=row["partner_id"],
        cancellation_id=row["cancellation_id"],
        consent_id=row["consent_id"],
        order_id=row["order_id"],
        payment_id=row["payment_id"],
        digest=row["body_digest"],
        outcome=Reason(code=ReasonCode(code), text=row["reason_text"]) if code else CancellationEffect(row["effect"]),
        is_open=row["is_open"],
        reference=row["reference"],
        handled_at=row["handled_at"],
    )
