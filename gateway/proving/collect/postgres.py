"""The gateway's records as evidence: whole tables in one read-only snapshot, a few columns each."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime
from sys import intern
from typing import Any, Final

import asyncpg
from asyncpg import Connection, Record

from gateway.proving.books.evidence import (
    ClearingRow,
    ConsentRow,
    Evidence,
    Exemption,
    InquiryRow,
    LimitCap,
    PaymentRow,
    RefusalRow,
    ReversalRow,
    TokenRow,
    TransferRow,
    UsageRow,
)
from schemas.primitives import minor_of

_PREFETCH: Final = 5_000
_RELAY_S: Final = 60.0
_POLL_S: Final = 0.05

_PAYMENTS: Final = """
SELECT partner_id, payment_id, order_id, consent_id, consent_version, merchant_id, operation, amount_minor, currency,
    order_digest, state, version, reason_code, network_id, rrn, limit_windows,
    round(extract(epoch FROM ordered_at) * 1000)::bigint, extract(epoch FROM decided_at)::float8,
    extract(epoch FROM changed_at)::float8, original_payment_id, funding_token
FROM payment
"""
_TRANSFERS: Final = "SELECT partner_id, payment_id, kind, debit, credit, amount_minor, currency FROM ledger_transfer"
_USAGE: Final = """
SELECT partner_id, consent_id, limit_key, replace(extract(epoch FROM starts_at)::text, '.000000', ''),
    reserved_minor + consumed_minor, reserved_count + consumed_count
FROM consent_usage
"""
_CLEARING: Final = """
SELECT network_id, cycle_id, record_no, rrn, amount_minor, currency, payment_id, break_kind, kind
FROM clearing_record
"""
_OUTBOX: Final = """
SELECT count(*), count(*) FILTER (WHERE (o.tx, o.id) > (c.tx, c.id)) + (SELECT count(*) FROM outbox_parked)
FROM outbox o CROSS JOIN outbox_cursor c
"""
_IS_UNRELAYED: Final = """
SELECT EXISTS (SELECT FROM outbox o, outbox_cursor c WHERE (o.tx, o.id) > (c.tx, c.id) AND o.tx >= c.tx)
"""


_TOKENS: Final = """
SELECT t.token, t.customer_id, array_agg(p.partner_id), array_agg(extract(epoch FROM p.withdrawn_at)::float8)
FROM funding_token t JOIN funding_token_partner p USING (token)
GROUP BY t.token
"""


async def collect_postgres(dsn: str, evidence: Evidence) -> None:
    """Read the gateway's side. About 15 µs a payment with its transfers.

    Where payments rest, the disclosure log still tells of a root when its time comes. So the snapshot is taken at a
    moment at which the relay is done with all that was told: it is waited for, but not for ever.
    """
    connection = await asyncpg.connect(dsn, server_settings={"application_name": "mypay-books"})
    deadline = time.monotonic() + _RELAY_S
    try:
        while True:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                if time.monotonic() > deadline or not await connection.fetchval(_IS_UNRELAYED):
                    await _read(connection, evidence)
                    return
            await asyncio.sleep(_POLL_S)
    finally:
        await connection.close()


async def _read(connection: "Connection[Any]", evidence: Evidence) -> None:
    async for row in _rows(connection, _PAYMENTS):
        payment = PaymentRow(*row)
        evidence.payments[payment.key] = payment
    evidence.transfers = [TransferRow(*row) async for row in _rows(connection, _TRANSFERS)]
    evidence.usage = [UsageRow(*row) async for row in _rows(connection, _USAGE)]
    evidence.clearing = [ClearingRow(*row) async for row in _rows(connection, _CLEARING)]
    sql = "SELECT partner_id, reference, order_id, reason_code FROM refusal"
    evidence.refusals = [RefusalRow(*row) async for row in _rows(connection, sql)]
    sql = "SELECT partner_id, payment_id, closed_at IS NOT NULL FROM reversal"
    evidence.reversals = [ReversalRow(*row) async for row in _rows(connection, sql)]
    sql = "SELECT partner_id, payment_id, closed_at IS NOT NULL FROM inquiry"
    evidence.inquiries = [InquiryRow(*row) async for row in _rows(connection, sql)]
    sql = "SELECT partner_id, consent_id, version, terms::text, changes FROM consent"
    async for partner_id, consent_id, version, terms, changes in _rows(connection, sql):
        evidence.consent_changes[partner_id, consent_id] = changes
        evidence.consents[partner_id, consent_id] = consent_row(partner_id, consent_id, version, terms)
    evidence.tokens = {
        token: TokenRow(token, customer_id, dict(zip(partners, until_s, strict=True)))
        async for token, customer_id, partners, until_s in _rows(connection, _TOKENS)
    }
    rows = await connection.fetch("SELECT used_by, count(*) FROM used_assertion GROUP BY used_by")
    evidence.proofs_used = Counter({r[0]: r[1] for r in rows})
    outbox = await connection.fetchrow(_OUTBOX)
    evidence.outbox_rows, evidence.outbox_unrelayed = tuple(outbox) if outbox else (0, 0)


async def _rows(connection: "Connection[Any]", sql: str) -> AsyncIterator[tuple[Any, ...]]:
    """Rows with equal texts shared: most columns have few different values."""
    async for row in connection.cursor(sql, prefetch=_PREFETCH):
        yield _shared(row)


def _shared(row: Record) -> tuple[Any, ...]:
    return tuple([intern(value) if type(value) is str else value for value in row])


def consent_row(partner_id: str, consent_id: str, version: int, terms: str) -> ConsentRow:
    """Read the limits out of a consent's terms (JSON, as the contract spells them)."""
    read = json.loads(terms)
    valid_from_s = datetime.fromisoformat(read["valid_from"]).timestamp()
    purpose = read.get("payment")
    if not purpose:
        return ConsentRow(partner_id, consent_id, version, valid_from_s, ())
    exemption = _exemption(purpose.get("low_value_exemption"))
    caps, customer_id = tuple(_caps(purpose)), read["customer_id"]
    return ConsentRow(partner_id, consent_id, version, valid_from_s, caps, exemption, customer_id)


def _exemption(terms: dict[str, Any] | None) -> Exemption | None:
    if terms is None:
        return None
    currency, each = _money(terms["max_amount"])
    return Exemption(currency, each, _money(terms["max_sum"])[1], terms["max_count"])


def _caps(purpose: dict[str, Any]) -> list[LimitCap]:
    caps = []
    if purpose.get("single_use"):
        caps.append(LimitCap("single-use", None, None, None, None, 1))
    if purpose.get("lifetime_count") is not None:
        caps.append(LimitCap("lifetime/count", None, None, None, None, purpose["lifetime_count"]))
    caps.extend(
        LimitCap(f"lifetime/{most['currency']}", None, None, *_money(most), None)
        for most in purpose.get("lifetime_amounts", ())
    )
    for limit in purpose.get("period_limits", ()):
        amount = limit.get("max_amount")
        currency, minor = _money(amount) if amount else (None, None)
        period, alignment = limit["period"], limit["alignment"]
        key = f"{period}/{alignment}/{currency or 'count'}"
        caps.append(LimitCap(key, period, alignment, currency, minor, limit.get("max_count")))
    return caps


def _money(amount: dict[str, str]) -> tuple[str, int]:
    return amount["currency"], minor_of(amount["value"], amount["currency"])
