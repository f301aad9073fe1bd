"""What is older than its terms goes, kind by kind, and each destruction is told and is an entry of the log."""

from datetime import timedelta
from uuid import UUID

import pytest
from msgspec.structs import replace

from gateway.app.schedule import ScheduleTerms
from gateway.base.calendar import BusinessDays
from gateway.disclosure.rules.destruction import OldRows
from gateway.disclosure.rules.entry import Kind
from gateway.disclosure.rules.uses import SourceRow, told_by, use_of
from gateway.marketing.rules.aggregates import Contribution
from gateway.proving.memory import Database, MemoryClock, MemoryStore
from gateway.sharing.rules.records import Notice
from schemas.codec import decode
from schemas.disclosure import DataDestroyed
from schemas.events import EventType
from schemas.sharing import EraseCause
from tests.contract.test_old_rows import holder, share
from tests.support.builders import NOW, payment
from tests.support.stages import timers

KEEP = {OldRows.SHARES: timedelta(days=100), OldRows.CONTRIBUTIONS: timedelta(days=10)}


@pytest.fixture
def database() -> Database:
    made = Database()
    held = holder("consent-1", 1)
    told = Notice(UUID(int=1), EraseCause.ENDED, NOW, NOW)
    made.sharing.holders.rows[held.key, "points", 1] = replace(held, notice=told, confirmed_at=NOW)
    made.sharing.shares.rows[share(1, "consent-1", 1).key] = share(1, "consent-1", 1)
    table = ("2025-W19", "KRW", 1)
    made.marketing.published.rows[table] = (Contribution(payment(1).payment_id, "customer-1", "5411", "Seoul", 1),)
    made.marketing.published_at.rows[table] = NOW
    return made


async def test_each_kind_goes_after_its_own_time_with_evidence_that_is_told(database: Database) -> None:
    store, clock = MemoryStore(database), MemoryClock(NOW)
    stage = timers(store, clock, keep=KEEP)
    clock.advance(KEEP[OldRows.CONTRIBUTIONS].total_seconds() - 1)
    assert await stage.old_rows.destroy() == 0
    clock.advance(1)
    assert await stage.old_rows.destroy() == 1
    clock.advance((KEEP[OldRows.SHARES] - KEEP[OldRows.CONTRIBUTIONS]).total_seconds())
    assert await stage.old_rows.destroy() == 2
    assert await stage.old_rows.destroy() == 0
    assert not database.sharing.holders.rows
    assert not database.sharing.shares.rows
    events = [r for r in database.outbox if r.event.event_type == EventType.DATA_DESTROYED]
    told = [decode(DataDestroyed, r.event.body) for r in events]
    kinds = ["payments of aggregates", "rounds of sharing", "shares with affiliates"]
    assert [(t.number, t.kind, t.rows) for t in told] == [(n, kind, 1) for n, kind in enumerate(kinds, 1)]
    assert all(b"customer-1" not in r.event.body for r in events)
    uses = [
        use_of(
            SourceRow(
                *(r.tx, r.id, r.event.event_type, r.event.event_id, r.event.occurred_at),
                told=told_by(r.event.body),
            )
        )
        for r in events
    ]
    assert {u.kind for u in uses if u is not None} == {Kind.DESTRUCTION}


async def test_nothing_goes_that_no_term_is_set_for(database: Database) -> None:
    store, clock = MemoryStore(database), MemoryClock(NOW)
    assert ScheduleTerms(cut_overs={}, days=BusinessDays()).keep == {}
    clock.advance(timedelta(days=9999).total_seconds())
    assert await timers(store, clock).old_rows.destroy() == 0
    only = {OldRows.CONTRIBUTIONS: KEEP[OldRows.CONTRIBUTIONS]}
    assert await timers(store, clock, keep=only).old_rows.destroy() == 1
    assert await timers(store, clock, keep=only).old_rows.destroy() == 0
    assert database.sharing.shares.rows
    assert database.sharing.holders.rows
