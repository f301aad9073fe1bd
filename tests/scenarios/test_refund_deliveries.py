"""A refund that is delivered more than once has one end, whatever comes up between its deliveries."""

import asyncio

from tests.support.builders import payment
from tests.support.instructions import dispatched_refund, instruction_record, refund
from tests.support.rig import Rig


def pay(rig: Rig) -> None:
    """Order-1 is approved."""
    paid = payment(1, state="approved")  # type: ignore[arg-type]
    rig.database.payments.rows[paid.key] = paid


async def test_what_was_refused_stays_refused_when_it_is_delivered_again() -> None:
    rig = Rig()
    record = instruction_record(refund(1), 1)
    await rig.initiation.take([record])
    assert rig.told() == ["order.refused"]
    pay(rig)
    await rig.initiation.take([record])
    assert rig.told() == ["order.refused"]
    assert not rig.kafka.topics()


async def test_a_refused_refund_may_be_sent_again() -> None:
    rig = Rig()
    await rig.initiation.take([instruction_record(refund(1), 1)])
    pay(rig)
    await rig.initiation.take([instruction_record(refund(1), 2)])
    assert len(rig.kafka.records("mypay.dispatch.net-a")) == 1


async def test_a_refund_whose_payment_comes_up_while_it_is_refused_is_not() -> None:
    rig = Rig()
    rig.faults.hold("store.begin")
    held = asyncio.create_task(rig.initiation.take([instruction_record(refund(1), 1)]))
    await rig.faults.reached("store.begin")
    pay(rig)
    rig.faults.open("store.begin")
    await held
    assert rig.told() == []
    assert len(rig.kafka.records("mypay.dispatch.net-a")) == 1


async def test_execution_leaves_alone_what_the_intake_has_refused() -> None:
    rig = Rig()
    await rig.initiation.take([instruction_record(refund(1), 1)])
    pay(rig)
    await rig.execute([dispatched_refund(refund(1), 1)])
    assert rig.told() == ["order.refused"]
    assert not rig.host.received
