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
    assert (levels["open_sent"], levels["oldest_sent_seconds"]) == (2, 7.0)
    assert (levels["open_unknown"], levels["oldest_unknown_seconds"]) == (0, 0.0)
    for number in (1, 2):
        rig.database.payments.rows[payment(number).key] = payment(number, state=PaymentState.DECLINED)
    await watch.look()
    assert (levels["open_sent"], levels["oldest_sent_seconds"]) == (0, 0.0)
