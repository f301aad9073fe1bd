"""A worker that dies between any two steps of what time and bulks do: each payment is made, told and paid once."""

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from gateway.base.calendar import day_of, day_start
from gateway.messaging.records import Record
from gateway.orders.scheduled.service import ScheduleSettings
from gateway.orders.standing.occurrences import OccurrenceSettings
from gateway.proving.memory import MemoryPublisher, MemoryStore
from schemas.bulk import BULK_TYPE, BulkItem, PaymentBulk
from schemas.codec import encode
from schemas.consents import ConsentStatus
from schemas.standing import (
    STANDING_CREATE_TYPE,
    Frequency,
    StandingOrderCreate,
    StandingSchedule,
)
from schemas.topics import dispatch_topic
from tests.support.builders import NETWORK, later, numbered_order, order_record
from tests.support.domain_samples import NOW, consent, krw
from tests.support.rig import Rig

TOMORROW = day_of(NOW) + timedelta(days=1)
ENDLESS = 10**9


class CrashedError(BaseException):
    """The process is gone: nothing in it may catch this."""


@dataclass
class CrashAt:
    """A boundary that lets ``left`` visits pass and crashes at the next."""

    left: int = ENDLESS
    visits: int = 0

    async def __call__(self, _place: str) -> None:
        self.visits += 1
        if self.visits > self.left:
            raise CrashedError


class Worker:
    """The intake and the schedule of one process, on a boundary of their own, over the rig's database and Kafka."""

    def __init__(self, rig: Rig, boundary: CrashAt) -> None:
        store, publisher = MemoryStore(rig.database, boundary), MemoryPublisher(rig.kafka, boundary)

        self.initiation = rig.new_initiation(store=store, publisher=publisher)
        scheduling = rig.new_schedule(
            store=store,
            publisher=publisher,
            orders=ScheduleSettings(batch=2, lease_s=1, again_s=10),
            occurrences=OccurrenceSettings(batch=1, at_once=1),
        )
        self.orders, self.occurrences = scheduling.orders, scheduling.occurrences


def records() -> list[Record]:
    items = tuple(
        BulkItem(order_id=f"item-{n}", consent_id=c, merchant_id="merchant-1", amount=krw(1_000))  # type: ignore[arg-type]
        for n, c in enumerate(("consent-1", "suspended", "consent-1"))
    )
    bulk = PaymentBulk.model_validate_json(
        json.dumps(
            {
                "partner_id": "partner-1",
                "bulk_id": "bulk-1",
                "acceptance": "partial",
                "number_of_transactions": 3,
                "control_sum": {"currency": "KRW", "value": "3000"},
                "items": [json.loads(encode(i)) for i in items],
                "issued_at": NOW.isoformat(),
                "expires_at": later(20 * 3600).isoformat(),
            }
        )
    )
    create = StandingOrderCreate(
        partner_id="partner-1",  # type: ignore[arg-type]
        standing_order_id="rent",  # type: ignore[arg-type]
        consent_id="consent-1",  # type: ignore[arg-type]
        merchant_id="merchant-1",  # type: ignore[arg-type]
        amount=krw(2_000),
        schedule=StandingSchedule(frequency=Frequency.DAILY, first_date=TOMORROW, count=1),
        issued_at=NOW,
        expires_at=later(3600),
    )
    waiting = [
        numbered_order(n, requested_execution_date=TOMORROW, expires_at=day_start(TOMORROW) + timedelta(hours=20))
        for n in (1, 2, 3)
    ]
    return [
        order_record(encode(bulk), offset=1, key=b"bulk-1", type_=BULK_TYPE),
        order_record(encode(create), offset=2, key=b"consent-1", type_=STANDING_CREATE_TYPE),
        *(order_record(o, offset=2 + n) for n, o in enumerate(waiting, 1)),
    ]


def new_rig() -> Rig:
    rig = Rig()
    rig.database.put_consent(consent(ConsentStatus.SUSP, consent_id="suspended"))
    return rig


async def intake(worker: Worker) -> None:
    await worker.initiation.take(records())


async def time(worker: Worker) -> None:
    while await worker.occurrences.make_due():
        pass
    while await worker.orders.dispatch_due():
        pass


async def finish(rig: Rig) -> None:
    """A healthy worker takes everything again, time passes, and everything is executed, some of it twice."""
    worker = Worker(rig, CrashAt())
    await intake(worker)
    if rig.clock.now() < day_start(TOMORROW):
        rig.clock.advance((day_start(TOMORROW) - rig.clock.now()).total_seconds())
    for _ in range(3):
        await time(worker)
        await rig.execute(rig.kafka.records(dispatch_topic(NETWORK)))
        rig.clock.advance(20)


def story(rig: Rig) -> dict[str, Any]:
    """What stands, what was told first, and what was booked."""
    told = [
        (e.event_type, json.loads(e.body).get("order_id") or json.loads(e.body).get("bulk_id") or "rent")
        for e in rig.events()
        if not e.event_type.endswith(".reported.v1")
    ]
    return {
        "states": rig.states(),
        "told": Counter(told),
        "ledger": Counter(rig.ledger_kinds()),
        "standing": {k: (s.status, s.version, s.occurrences) for k, s in rig.database.standing.rows.items()},
        "bulks": {k: (b.status, b.rejected, b.dispatched_at is not None) for k, b in rig.database.bulks.rows.items()},
        "open": [k for k, r in rig.database.scheduled.rows.items() if r.closed_at is None],
        "taken": set(rig.used()),
    }


WANTED = {
    "order-1": "approved",
    "order-2": "approved",
    "order-3": "approved",
    "item-0": "approved",
    "item-1": "rejected",
    "item-2": "approved",
    "rent+20250518": "approved",
}


@pytest.mark.parametrize("act", [intake, time])
async def test_a_crash_between_any_two_steps(act: Callable[[Worker], Awaitable[None]]) -> None:
    async def begun() -> Rig:
        rig = new_rig()
        if act is time:
            await intake(Worker(rig, CrashAt()))
            rig.clock.advance((day_start(TOMORROW) - NOW).total_seconds())
        return rig

    clean, boundary = await begun(), CrashAt()
    await act(Worker(clean, boundary))
    await finish(clean)
    wanted = story(clean)
    assert wanted["states"] == WANTED
    assert wanted["ledger"] == {"authorised": 6}
    assert max(wanted["told"].values()) == 1
    assert boundary.visits > 20

    for step in range(boundary.visits):
        rig = await begun()
        with pytest.raises(CrashedError):
            await act(Worker(rig, CrashAt(step)))
        assert rig.database.locks.waiting == frozenset()
        await finish(rig)
        assert story(rig) == wanted, f"not whole after a crash at step {step}"
