"""What was handed to a recipient and to affiliates in a run, laid beside their own books and measured.

The affiliates' weekly aggregates are made here, by the gateway's own service under a clock that is a week ahead: a run
is shorter than the week that must be over.
"""

import asyncio
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import aiohttp
import asyncpg

from gateway.app.marketing import open_aggregates
from gateway.proving.books import Checked, Evidence
from gateway.proving.books.handed import Handed, used
from gateway.proving.books.receivers import check_handed
from gateway.proving.books.report import Finding
from gateway.proving.collect.handed import collect_handed
from gateway.proving.traffic.leaving import Left
from gateway.proving.traffic.receivers import FAITHFUL, SCARCE
from gateway.proving.world.receiving import AffiliateBook, Receiving
from gateway.proving.world.world import World
from schemas.consents import Purpose
from schemas.marketing import AggregateCell, AggregateTable

K_MIN: Final = 10
"""The least number of customers that a number may tell of, as in production; more where a run has many customers."""

_WEEK: Final = timedelta(days=7)
_WAIT_S: Final = 120.0
_POLL_S: Final = 0.05

_WAITS: Final = """
SELECT EXISTS (SELECT FROM outbox o, sharing_place p WHERE (o.tx, o.id) > (p.tx, p.id))
"""
_WILLING: Final = "SELECT count(*) FROM consent WHERE terms ? 'marketing' AND status = 'AUTH'"
_COUNTED: Final = """
SELECT week, currency, category, region, count(DISTINCT customer_id)::int AS customers, count(*)::int AS payments,
       sum(amount_minor)::bigint AS amount
FROM marketing_table_payment
GROUP BY week, currency, GROUPING SETS ((category, region), (category), (region), ())
"""
_METRIC: Final = re.compile(r'^mypay_revoke_to_last_use_seconds\{use="(\w+)"\} (\S+)$', re.MULTILINE)
_USES: Final = ("intent", "export", "share", "offer")
_REPORTED_S: Final = 13.0
"""After a consent's end: by then every process has told how late its last use was."""

_REVOKED: Final = """
SELECT extract(epoch FROM max(ended_at))::float8 FROM consent_purpose_end WHERE (partner_id, consent_id) = ($1, $2)
"""


@dataclass(frozen=True, slots=True)
class _Ahead:
    """Implements :class:`gateway.base.process.Clock`: a week from now."""

    def now(self) -> datetime:
        return datetime.now(UTC) + _WEEK


async def until_shared(dsn: str) -> None:
    """Wait until sharing has seen everything that happened; not longer than it may take."""
    connection = await asyncpg.connect(dsn)
    try:
        for _ in range(round(_WAIT_S / _POLL_S)):
            if not await connection.fetchval(_WAITS):
                return
            await asyncio.sleep(_POLL_S)
    finally:
        await connection.close()


async def publish_aggregates(world: World, receiving: Receiving) -> None:
    """Tell this week's aggregates, as they will be told when it is over, and wait until both affiliates have them."""
    connection = await asyncpg.connect(world.postgres_dsn)
    try:
        willing = await connection.fetchval(_WILLING)
    finally:
        await connection.close()
    k = max(K_MIN, willing // 10)
    async with open_aggregates(world.postgres_dsn, clock=_Ahead(), k=k) as aggregates:
        told = await aggregates.publish()
    for _ in range(round(_WAIT_S / _POLL_S)):
        if len(receiving.tables) >= told:
            return
        receiving.check()
        await asyncio.sleep(_POLL_S)


async def check_receiving(
    world: World, receiving: Receiving, evidence: Evidence, left: Left
) -> tuple[list[Checked], list[str]]:
    """Lay the receivers' books beside the gateway's and the log's; return what was found and what there is to see.

    Args:
        world: at rest, with everything relayed and logged.
        receiving: the receivers' books.
        evidence: of the same world.
        left: the consent that was revoked while everything was asked for.
    """
    await receiving.catch_up()
    handed = await collect_handed(world.postgres_dsn)
    receiving.enter(handed, datetime.now(UTC))
    connection = await asyncpg.connect(world.postgres_dsn)
    try:
        counted = await connection.fetch(_COUNTED)
        ended_at: float = await connection.fetchval(_REVOKED, *left.key) or 0.0
    finally:
        await connection.close()
    checked = [*check_handed(handed, evidence), tables_hold(receiving.tables, counted)]
    lines = [
        *_exports(handed, receiving),
        *_shares(receiving),
        *_offers(handed),
        *_aggregates(receiving.tables),
        *_measured(handed, _last_on_kafka(receiving, evidence, left), left, ended_at),
        *await _exported(world, ended_at),
    ]
    return checked, lines


def tables_hold(tables: Sequence[AggregateTable], counted: Sequence[Any]) -> Checked:
    """Every number that was told is counted right and of at least k customers; a suppressed cell tells none.

    Args:
        tables: as they were told.
        counted: week, currency, category, region, and what was counted there: customers, payments and their sum.
    """
    found = Finding("tables_hold", "Aggregates tell no number of fewer than k customers, and every other one rightly")
    right = {tuple(row)[:4]: tuple(row)[4:] for row in counted}
    for table in tables:
        for cell in table.cells:
            found.looked_at += 1
            if fault := _fault_of(cell, table.k, right.get((table.week, table.currency, cell.category, cell.region))):
                found.wrong(f"{table.week} {table.currency}: {fault}")
    if not any(cell.suppressed for table in tables for cell in table.cells):
        found.wrong("no cell was suppressed, so that nothing was shown")
    return found.result()


def _fault_of(cell: AggregateCell, k: int, right: tuple[Any, ...] | None) -> str:
    numbers = (cell.customers, cell.payments, cell.amount.minor if cell.amount else None)
    if cell.suppressed:
        return "a suppressed cell tells a number" if any(n is not None for n in numbers) else ""
    if numbers != right:
        return "a cell is counted otherwise"
    return f"a number of fewer than {k} customers" if (cell.customers or 0) < k else ""


def _exports(handed: Handed, receiving: Receiving) -> list[str]:
    told = f"{sum(handed.opened.values()):,} records in {len(handed.opened)} exports"
    name = receiving.receivers.recipient.name
    void = f"attempts that are void: {len(receiving.exports.void)}"
    return [f"Exports over Kafka: {name} opened {told} with its key, and verified the gateway's receipts; {void}"]


def _shares(receiving: Receiving) -> list[str]:
    now = datetime.now(UTC)
    lines = []
    for affiliate_id, book in receiving.books.items():
        found = book.verify(now)
        lines.append(
            f"mypay sharing verify {affiliate_id}: {found.shares:,} shares, erase notices: {found.notices}, "
            f"problems: {len(found.problems)}"
        )
        lines += _one_share(book)
    return lines


def _one_share(book: AffiliateBook) -> list[str]:
    """A payment as its affiliate sees it."""
    share = next(iter(book.shares.values()), None)
    if share is None:
        return []
    use = share.uses[0]
    data = use.data.model_dump(mode="json", exclude_none=True)
    told = ", ".join(
        f"{name} {value['value'] + ' ' + value['currency'] if isinstance(value, dict) else value}"
        for name, value in data.items()
    )
    return [f"  one of them: customer {share.customer}, for {use.purpose}, approved by {use.approved_by}: {told}"]


def _offers(handed: Handed) -> list[str]:
    lines = []
    for row in sorted(handed.campaigns, key=lambda c: (SCARCE, FAITHFUL).index(c.campaign_id)):
        own = [o for o in handed.offers if o.campaign_id == row.campaign_id]
        refused = sum(u.reason_code is not None for u in handed.uses if u.offer_id in {o.offer_id for o in own})
        lines.append(
            f"Campaign {row.campaign_id}: offers {len(own)} of at most {row.budget_offers}, {sum(o.uses for o in own)} "
            f"uses counted, {refused} refused, {row.used_minor:,} KRW used and {row.held_minor:,} held of "
            f"{row.budget_minor:,}"
        )
    return lines


def _aggregates(tables: Sequence[AggregateTable]) -> list[str]:
    lines = []
    for table in tables:
        hidden = [c for c in table.cells if c.suppressed]
        lines.append(
            f"Aggregate of {table.week}, {table.currency}, k={table.k}, as it is told once the week is over: "
            f"{len(table.cells)} cells, {len(hidden)} suppressed"
        )
        told = max((c for c in table.cells if not c.suppressed), key=lambda c: (c.region is not None, c.customers or 0))
        lines += [f"  {_cell(c)}" for c in (told, *hidden[-1:])]
    return lines


def _cell(cell: AggregateCell) -> str:
    place = f"{cell.category or 'all categories'} in {cell.region or 'all regions'}"
    if cell.suppressed or cell.amount is None:
        return f"{place}: suppressed"
    amount = f"{cell.amount.minor:,}" if cell.amount.currency == "KRW" else cell.amount.value
    return f"{place}: {cell.customers} customers, {cell.payments} payments, {amount} {cell.amount.currency}"


def _measured(handed: Handed, on_kafka: Mapping[str, float], left: Left, ended_at: float) -> list[str]:
    """From the revocation's commit to the last use of each purpose: when it was decided, and when it was on Kafka."""
    times: dict[str, list[float]] = defaultdict(list)
    for row in used(handed):
        if (row.partner_id, row.consent_id) == left.key:
            times[row.purpose].append(row.at_s - ended_at)
    moment = datetime.fromtimestamp(ended_at, UTC)
    lines = [
        f"One revocation ended all of {left.key[1]}, at {moment:%H:%M:%S.%f}"[:-3]
        + " UTC; the last use of each purpose:"
    ]
    for purpose in (p.value for p in Purpose if p.value in times):
        spans = times[purpose]
        decided = f"decided {_apart(max(spans))}"
        out = f", on Kafka {_apart(on_kafka[purpose] - ended_at)}" if purpose in on_kafka else ""
        lines.append(f"  {purpose:<12}{decided}{out}; {len(spans)} uses in all, none after it")
    return lines


async def _exported(world: World, ended_at: float) -> list[str]:
    """What the processes tell of it in their metrics: the highest of all consents that ended in the run."""
    found: dict[str, float] = {}
    async with aiohttp.ClientSession() as session:
        while True:
            for url in world.http.values():
                async with session.get(f"{url}/metrics") as page:
                    told = [(use, float(value)) for use, value in _METRIC.findall(await page.text())]
                for use, value in ((u, v) for u, v in told if not math.isnan(v)):
                    found[use] = max(value, found.get(use, -math.inf))
            if found.keys() >= set(_USES) or datetime.now(UTC).timestamp() > ended_at + _REPORTED_S:
                break
            await asyncio.sleep(_POLL_S * 4)
    figures = ", ".join(f"{use} {found[use]:+.3f} s" for use in _USES if use in found)
    return [f"As exported, over all that ended in the run (mypay_revoke_to_last_use_seconds): {figures or 'nothing'}"]


def _apart(seconds: float) -> str:
    return f"{abs(seconds):.3f} s {'after' if seconds > 0 else 'before'}"


def _last_on_kafka(receiving: Receiving, evidence: Evidence, left: Left) -> dict[str, float]:
    """Purpose → Kafka's time of the last record by which it was used; seconds since 1970."""
    payments = {str(p.payment_id) for p in evidence.payments.values() if (p.partner_id, p.consent_id) == left.key}
    books = receiving.books
    found = {
        "payment": [e.timestamp_ms for e in evidence.events if e.kind == "payment.sent" and e.subject in payments],
        "portability": list(receiving.sent_ms.values()),
        "sharing": [books[a].last_ms[ref] for a, ref in left.references.items() if ref in books[a].last_ms],
        "marketing": [books[left.offer.affiliate_id].last_ms[str(left.offer.offer_id)]] if left.offer else [],
    }
    return {purpose: max(times) / 1000 for purpose, times in found.items() if times}
