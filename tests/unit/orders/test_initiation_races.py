"""Two orders under one id that race for its payment: one stands, the other is told so."""

import asyncio

from tests.support.builders import later, numbered_order, order_record
from tests.support.domain_samples import krw
from tests.support.rig import Rig


async def race(rig: Rig, *, same: bool) -> None:
    """The first order is rejected, but held before it is written; a second one under its id is written meanwhile."""
    first = order_record(numbered_order(1, consent_id="nobody"), offset=1)
    amount = krw(10_000 if same else 1)
    second = order_record(numbered_order(1, consent_id="nobody", amount=amount), offset=2, at=later(1))
    rig.faults.hold("payments.insert", visit=1)
    held = asyncio.create_task(rig.initiation.take([first]))
    await rig.faults.reached("payments.insert")
    await rig.initiation.take([second])
    rig.faults.open("payments.insert")
    await held


async def test_an_order_that_loses_its_id_to_another_is_refused() -> None:
    rig = Rig()
    await race(rig, same=False)
    assert rig.told() == ["payment.rejected", "order.refused"]
    assert rig.payment(1).amount_minor == 1
    assert [reference for _, reference in rig.database.refusals.rows] == ["mypay.orders/0/1"]


async def test_an_order_that_loses_its_id_to_its_own_copy_is_answered() -> None:
    rig = Rig()
    await race(rig, same=True)
    assert rig.told() == ["payment.rejected", "payment.reported"]
    assert rig.events()[1].event_id.endswith("mypay.orders/0/1")


async def test_what_is_new_of_a_batch_is_told_where_a_part_of_it_was_written_before() -> None:
    rig = Rig()
    first, second = (order_record(numbered_order(n, consent_id="nobody"), offset=n) for n in (1, 2))
    rig.faults.hold("payments.insert", visit=1)
    held = asyncio.create_task(rig.initiation.take([first, second]))
    await rig.faults.reached("payments.insert")
    # The very same record, at the very same moment, by another delivery.
    await rig.initiation.take([first])
    rig.faults.open("payments.insert")
    await held
    assert rig.told(str(rig.payment(1).payment_id)) == ["payment.rejected"]
    assert rig.told(str(rig.payment(2).payment_id)) == ["payment.rejected"]
