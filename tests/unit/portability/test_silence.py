"""A year without access: what is held of transmission requests goes, and their ids stay used."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.disclosure.rules.entry import Kind
from gateway.portability.rules.records import RequestStatus
from gateway.portability.rules.requests import Lapse, lapse, silent_since
from schemas.codec import decode
from schemas.disclosure import DataDestroyed
from schemas.events import EventType
from tests.support.portability import PortabilityRig
from tests.support.stages import timers

YEAR: Final = timedelta(days=365)


@pytest.fixture
def rig() -> PortabilityRig:
    return PortabilityRig()


@given(
    now=st.datetimes(min_value=datetime(2001, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    earlier=st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=2)),
)
def test_who_was_silent_before_that_moment_was_so_for_a_year(now: datetime, earlier: timedelta) -> None:
    assert lapse(silent_since(now) - earlier, now) is Lapse.DELETES
    # And nobody is waited for longer than a day more, which only the end of February is.
    assert lapse(silent_since(now) + timedelta(days=1, microseconds=1), now) is not Lapse.DELETES


async def destroy(rig: PortabilityRig) -> int:
    return await timers(rig.store, rig.clock).silent_requests.destroy()


async def test_the_id_of_what_was_destroyed_stays_used(rig: PortabilityRig) -> None:
    rig.pay(1)
    first = rig.record()
    await rig.take(first)
    await rig.make_all()
    rig.clock.advance((YEAR - timedelta(seconds=1)).total_seconds())
    assert await destroy(rig) == 0
    rig.clock.advance(1)
    assert await destroy(rig) == 2
    assert not rig.database.transmissions.rows
    assert not rig.database.exports.rows
    told = len(rig.told())
    # The record itself, read once more, is nothing new. The same bytes in another one are, and so are others.
    await rig.take(first)
    assert len(rig.told()) == told
    await rig.take(rig.again(first.value), rig.record(search_timestamp="20250101000000"))
    answers = [body for _, body in rig.told()[told:]]
    assert [(a["status"], a["reason"]["code"]) for a in answers] == [("refused", "AM05")] * 2
    assert "destroyed" in answers[0]["reason"]["text"]
    assert not rig.database.transmissions.rows


async def test_what_goes_on_or_is_on_its_way_stays(rig: PortabilityRig) -> None:
    await rig.take(rig.record())
    rig.clock.advance((2 * YEAR).total_seconds())
    # Asked for once, and not yet made.
    assert await destroy(rig) == 0
    [key] = rig.database.transmissions.rows
    rig.database.transmissions.rows[key] = replace(rig.database.transmissions.rows[key], status=RequestStatus.STOPPED)
    assert await destroy(rig) == 0


async def test_evidence_is_told_and_is_an_entry_of_the_log(rig: PortabilityRig) -> None:
    rig.pay(1)
    await rig.take(rig.record())
    await rig.make_all()
    rig.clock.advance(YEAR.total_seconds())
    await destroy(rig)
    events = [r.event for r in rig.database.outbox if r.event.event_type == EventType.DATA_DESTROYED]
    told = [decode(DataDestroyed, e.body) for e in events]
    assert [(t.number, t.kind, t.rows) for t in told] == [
        (1, "transmission requests", 1),
        (2, "exports of transmission requests", 1),
    ]
    assert all(b"customer-1" not in e.body and b"request-1" not in e.body for e in events)
    uses = [u for u in rig.logged_all() if u.kind is Kind.DESTRUCTION]
    assert [(u.what, u.partner_id, u.consent_id) for u in uses] == [
        ("1 transmission requests destroyed by a year without access", None, None),
        ("1 exports of transmission requests destroyed by a year without access", None, None),
    ]
