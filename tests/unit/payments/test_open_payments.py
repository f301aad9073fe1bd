"""What operators are told of open outcomes."""

from gateway.payments.rules.lifecycle import PaymentState
from tests.support.builders import later, payment
from tests.support.rig import Rig


async def test_counts_and_ages_are_told_and_go_back_to_zero() -> None:
    rig = Rig()
    watch = rig.schedule.open_payments
    async with rig.store.transaction() as uow:
        await uow.payments.insert([payment(1, changed_at=later(-7)), payment(2, changed_at=later(-2))])
    assert await watch.look() == 0
    levels = rig.observer.levels
    of_network = f"network={payment(1).network_id}"
    assert levels[f"payments_open{{{of_network},state=sent}}"] == 2
    assert levels["payment_oldest_seconds{state=sent}"] == 7.0
    assert levels[f"payments_open{{{of_network},state=unknown}}"] == 0
    assert levels["payment_oldest_seconds{state=unknown}"] == 0.0
    for number in (1, 2):
        rig.database.payments.rows[payment(number).key] = payment(number, state=PaymentState.DECLINED)
    await watch.look()
    assert levels[f"payments_open{{{of_network},state=sent}}"] == 0
    assert levels["payment_oldest_seconds{state=sent}"] == 0.0
