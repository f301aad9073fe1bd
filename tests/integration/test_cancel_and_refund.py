"""Cancellations by the command line and refunds on real parts, from the partner's record to settlement."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.client import signed
from gateway.identity.jose.jwk import write_private_key
from gateway.proving.books import ProducedCancellation
from schemas.primitives import Money, OrderId
from schemas.refunds import PaymentRefund
from tests.support.cli import Ran, mypay
from tests.support.entries import BCARD, REJECTED, REVERSED, SETTLED, Entry
from tests.support.scene import Scene, the_schedule


async def cancel(scene: Scene, entry: Entry, folder: Path) -> dict[str, Any]:
    """Cancel an order as its partner does; what was answered."""
    order = entry.facts
    partner = scene.world.cast.partner(order.partner_id)
    key = folder / f"{partner.partner_id}.pem"
    if not key.exists():
        write_private_key(key, partner.private_key)
    names = ("--partner", order.partner_id, "--consent", order.consent_id, "--key", key, "--kid", partner.kid)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MYPAY_KAFKA_BOOTSTRAP_SERVERS", scene.world.kafka_bootstrap_servers)
        ran: Ran = await asyncio.to_thread(mypay, "order", "cancel", order.order_id, *names, "--wait", "--json")
    event: dict[str, Any] = ran.json["event"]
    _, partition, offset = event["reference"].split("/")
    scene.cancelled.append(ProducedCancellation(int(partition), int(offset), order.partner_id, order.payment_id))
    return event


def refund_of(scene: Scene, entry: Entry, minor: int, *, fits: bool) -> Entry:
    order = entry.facts
    partner, now = scene.world.cast.partner(order.partner_id), datetime.now(UTC)
    refund = PaymentRefund(
        partner_id=partner.partner_id,
        order_id=OrderId(f"r-{next(scene.numbers):06d}"),
        consent_id=order.consent_id,  # type: ignore[arg-type]
        original_order_id=OrderId(order.order_id),
        amount=Money.of(minor, order.currency),
        issued_at=now,
        expires_at=now + timedelta(hours=1),
    )
    facts = order._replace(
        order_id=refund.order_id,
        payment_id=refund.payment_id,
        amount_minor=minor,
        original_payment_id=order.payment_id,
    )
    return Entry(signed(partner.signer, refund), facts, SETTLED if fits else REJECTED, "refund")


async def test_orders_are_cancelled_before_and_after_they_are_sent(scene: Scene, tmp_path: Path) -> None:
    early, late, flying = (scene.payments(1, expected=e)[0] for e in (REJECTED, REVERSED, REVERSED))
    assert (await cancel(scene, early, tmp_path))["effect"] == "not_sent"
    await scene.send([early, late])
    await scene.until_states([early], "rejected")
    await scene.until_states([late], "approved")
    assert (await cancel(scene, late, tmp_path))["effect"] == "reversing"
    await scene.until_states([late], "reversed")

    # Answered within the time-out, but late enough to be cancelled in flight.
    await scene.network(BCARD).set_faults(late=1.0, late_ms=1_000, classes=["financial"])
    await scene.send([flying])
    await scene.until_states([flying], "sent", "approved")
    effect = (await cancel(scene, flying, tmp_path))["effect"]
    await scene.network(BCARD).clear_faults()
    # On a machine that stalls it may be approved by the time that it is cancelled.
    assert effect in ("once_known", "reversing")
    async with the_schedule(scene):
        await scene.until_states([flying], "reversed")
    reasons = {row["reason_code"] for row in (await scene.rows_of([early, late, flying])).values()}
    assert reasons == {"DS02"}

    settled = scene.payments(1)[0]
    await scene.send([settled])
    await scene.settle()
    assert (await cancel(scene, settled, tmp_path))["reason"]["code"] == "TM01"
    await scene.check_books()


async def test_refunds_at_once_never_exceed_their_payment_and_are_settled(scene: Scene) -> None:
    bought = [scene.entry(scene.order(amount=Money.of(8_000, "KRW"))) for _ in range(4)]
    await scene.send(bought)
    await scene.until_states(bought, "approved")
    refunds = [refund_of(scene, b, minor, fits=True) for b in bought for minor in (3_000, 5_000)]
    await scene.send(refunds)
    await scene.until_states(refunds, "approved")
    # Cleared by now or not: nothing is left.
    more = [refund_of(scene, b, 100, fits=False) for b in bought]
    await scene.send(more)
    await scene.until_states(more, "rejected")
    assert {row["reason_code"] for row in (await scene.rows_of(more)).values()} == {"AM02"}
    await scene.settle()
    await scene.check_books()
