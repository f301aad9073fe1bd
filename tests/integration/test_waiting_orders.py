"""Orders for a later day, standing orders and bulks on real parts, from the partner's record to settlement."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from gateway.base.calendar import day_of, day_start
from gateway.base.validity import ORDER_VALIDITY_MAX
from gateway.client import signed
from gateway.proving.traffic.cast import Customer, Partner, Role
from schemas.bulk import Acceptance, BulkItem, ControlSum, PaymentBulk
from schemas.orders import PaymentOrder
from schemas.primitives import MerchantId, Money, OrderId, StandingOrderId, payment_id_of
from schemas.standing import Frequency, StandingOrderCreate, StandingSchedule
from schemas.topics import events_topic
from tests.support.cli import mypay
from tests.support.entries import BCARD, SHOP_OF
from tests.support.keeper import Keeper
from tests.support.scene import Scene, the_schedule

NUMBER = 5


async def states(scene: Scene, ids: list[UUID]) -> list[str]:
    rows = await scene.fetch("SELECT state FROM payment WHERE payment_id = ANY ($1::uuid[]) ORDER BY order_id", ids)
    return [r["state"] for r in rows]


async def until(scene: Scene, ids: list[UUID], *wanted: str) -> None:
    async def there() -> bool:
        found = await states(scene, ids)
        return len(found) == len(ids) and set(found) <= set(wanted)

    await scene.until(there, f"{len(ids)} payments {' or '.join(wanted)}")


async def look(scene: Scene, *arguments: str) -> Any:
    """What a command tells programs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MYPAY_POSTGRES_DSN", scene.world.postgres_dsn)
        return (await asyncio.to_thread(mypay, *arguments, "--json")).expect().json


def order_for(scene: Scene, customer: Customer) -> PaymentOrder:
    day = day_of(datetime.now(UTC)) + timedelta(days=1)
    update = {"requested_execution_date": day, "expires_at": day_start(day) + ORDER_VALIDITY_MAX}
    return scene.order(customer=customer).model_copy(update=update)


async def told(scene: Scene, partner: Partner) -> list[tuple[str, dict[str, Any]]]:
    return [(e.kind, e.body) for e in await scene.read(events_topic(partner.partner_id))]


async def test_waiting_standing_and_bulk_orders_go_to_settlement(scene: Scene, keeper: Keeper) -> None:
    customer = scene.world.cast.of(Role.PLAIN)[0]
    terms = customer.terms
    partner = scene.world.cast.partner(terms.partner_id)
    now = datetime.now(UTC)
    times = {"issued_at": now, "expires_at": now + timedelta(minutes=30)}
    amount = Money.of(2_000, "KRW")

    waiting = [scene.entry(order_for(scene, customer)) for _ in range(NUMBER)]
    await scene.send(waiting)
    later = [e.payment_id for e in waiting]
    items = tuple(
        BulkItem(
            order_id=OrderId(f"item-{n}"),
            consent_id=terms.consent_id,
            merchant_id=MerchantId(SHOP_OF[BCARD] if n else "no-such-shop"),
            amount=amount,
        )
        for n in range(NUMBER)
    )
    bulk = PaymentBulk(
        partner_id=terms.partner_id,
        bulk_id="bulk-1",
        acceptance=Acceptance.PARTIAL,
        number_of_transactions=NUMBER,
        control_sum=ControlSum(currency="KRW", value=str(NUMBER * amount.minor)),
        items=items,
        **times,
    )
    today = day_of(now)
    standing = StandingOrderCreate(
        partner_id=terms.partner_id,
        standing_order_id=StandingOrderId("rent"),
        consent_id=terms.consent_id,
        merchant_id=MerchantId(SHOP_OF[BCARD]),
        amount=amount,
        schedule=StandingSchedule(frequency=Frequency.MONTHLY, first_date=today, count=1),
        **times,
    )
    await scene.client.send([signed(partner.signer, bulk), signed(partner.signer, standing)])

    accepted = [payment_id_of(terms.partner_id, i.order_id) for i in items[1:]]
    await until(scene, later, "scheduled")
    await until(scene, accepted, "approved", "settled")
    story = await look(scene, "trace", str(later[0]))
    assert [s["what"] for s in story["steps"]] == ["ordered", "scheduled", "due"]
    async with the_schedule(scene):
        occurrence = [payment_id_of(terms.partner_id, f"rent+{today:%Y%m%d}")]
        await until(scene, occurrence, "approved", "settled")
        assert set(await states(scene, later)) == {"scheduled"}
        # Their day comes: for the schedule, which looks when it has said that it will.
        await scene.fetch("UPDATE scheduled_order SET look_at = now() WHERE payment_id = ANY ($1::uuid[])", later)
        await until(scene, later, "approved", "settled")
    await scene.settle()
    story = await look(scene, "trace", str(later[0]))
    assert [s["what"] for s in story["steps"] if s["source"] == "outbox"] == [
        "scheduled",
        "sent",
        "approved",
        "settled",
    ]
    (shown,) = await look(scene, "standing", "show", "rent")
    assert (shown["status"], shown["occurrences"], shown["next"]) == ("completed", 1, [])

    for events in (await scene.told(waiting)).values():
        assert [(e.kind, e.body["status"], e.body["version"]) for e in events] == [
            ("payment.scheduled", "PDNG", 1),
            ("payment.sent", "ACTC", 2),
            ("payment.approved", "ACSP", 3),
            ("payment.settled", "ACSC", 4),
        ]
    everything = await told(scene, partner)
    (outcome,) = [body for kind, body in everything if kind == "bulk.accepted"]
    assert outcome["accepted"] == NUMBER - 1
    assert [(r["item"], r["order_id"], r["reason"]["code"]) for r in outcome["rejected"]] == [(1, "item-0", "AC03")]
    assert [kind for kind, _ in everything if kind.startswith("standing")] == [
        "standing-order.created",
        "standing-order.completed",
    ]
    ours = [*(e.facts.order_id for e in waiting), *(i.order_id for i in items), f"rent+{today:%Y%m%d}"]
    settled = [body["order_id"] for kind, body in everything if kind == "payment.settled"]
    assert sorted(s for s in settled if s in ours) == sorted(o for o in ours if o != "item-0")
    # What is in this world now did not all come of single orders, as the check of its books takes it.
    await keeper.discard(keep_data=False)
