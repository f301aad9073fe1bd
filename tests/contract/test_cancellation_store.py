"""CancellationStore, and what refunds need of PaymentStore: alike on the fakes and on PostgreSQL."""

import asyncio
from dataclasses import replace

import pytest
from msgspec import structs

from gateway.base.errors import StoreIntegrityError
from gateway.database.unit import Store
from gateway.network.exchange import Operation
from gateway.payments.cancellations.rules import HandledCancellation
from gateway.payments.refunds.rules import NOT_REFUNDED
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import Payment
from schemas.events import CancellationEffect
from schemas.primitives import ConsentId, PartnerId, payment_id_of
from schemas.reasons import Reason, ReasonCode
from tests.contract.conftest import Backend, rolled_back
from tests.support.builders import later, payment

REFUSED = Reason(code=ReasonCode.TM01, text="the payment is settled: refund it instead")
PARTNER = PartnerId("partner-1")


def handled(number: int = 1, *, order: int | None = None, **fields: object) -> HandledCancellation:
    order_id = f"order-{order or number}"
    row = HandledCancellation(
        partner_id=PARTNER,
        cancellation_id=f"cancellation-{number}",
        consent_id="consent-1",  # type: ignore[arg-type]
        order_id=order_id,  # type: ignore[arg-type]
        payment_id=payment_id_of(PARTNER, order_id),
        digest=bytes([number]) * 32,
        outcome=CancellationEffect.ONCE_KNOWN,
        is_open=True,
        reference=f"mypay.orders/0/{number}",
        handled_at=later(number),
    )
    return replace(row, **fields)  # type: ignore[arg-type]


def refund_of(original: Payment, number: int, **fields: object) -> Payment:
    return payment(number, operation=Operation.REFUND, original_payment_id=original.payment_id, **fields)  # type: ignore[arg-type]


async def remember(store: Store, *rows: HandledCancellation) -> None:
    async with store.transaction() as uow:
        assert await uow.cancellations.remember(rows) == {r.key for r in rows}


@pytest.mark.parametrize(
    "row",
    [handled(), handled(outcome=REFUSED, is_open=False)]
    + [handled(outcome=effect, is_open=False) for effect in CancellationEffect],
    ids=lambda r: str(r.outcome)[:20],
)
async def test_what_is_remembered_comes_back(store: Store, row: HandledCancellation) -> None:
    await remember(store, row)
    async with store.reading() as uow:
        assert await uow.cancellations.handled([row.key, handled(2).key]) == {row.key: row}


async def test_nothing_asked_for_is_nothing_done(store: Store) -> None:
    async with store.transaction() as uow:
        assert await uow.cancellations.handled([]) == {}
        assert await uow.cancellations.remember([]) == frozenset()
        assert await uow.cancellations.answer([]) == frozenset()
        assert await uow.cancellations.not_sent([]) == {}
        assert await uow.cancellations.lock_due(limit=10) == []
        await uow.cancellations.update([])
        assert await uow.payments.refunded([]) == {}


async def test_the_first_under_an_id_stands(store: Store) -> None:
    await remember(store, handled())
    async with store.transaction() as uow:
        other = handled(order=9, outcome=REFUSED, is_open=False)
        assert await uow.cancellations.remember([other, handled(2)]) == {handled(2).key}
        assert (await uow.cancellations.handled([other.key]))[other.key] == handled()


async def test_a_record_is_answered_once(store: Store) -> None:
    first, second = (PARTNER, "mypay.orders/0/1"), (PartnerId("partner-2"), "mypay.orders/0/1")
    async with store.transaction() as uow:
        assert await uow.cancellations.answer([first]) == {first}
        assert await uow.cancellations.answer([first, second]) == {second}
    async with rolled_back(store) as uow:
        await uow.cancellations.answer([(PARTNER, "mypay.orders/0/2")])
    async with store.transaction() as uow:
        assert await uow.cancellations.answer([first, (PARTNER, "mypay.orders/0/2")]) == {(PARTNER, "mypay.orders/0/2")}


async def test_orders_that_shall_not_be_sent_are_found_by_their_payments(store: Store) -> None:
    closed = {"is_open": False}
    await remember(
        store,
        handled(1, outcome=CancellationEffect.NOT_SENT, **closed),
        handled(2, order=1, outcome=CancellationEffect.NOT_SENT, **closed),
        handled(3, outcome=CancellationEffect.CANCELLED, **closed),
        handled(4, outcome=REFUSED, **closed),
        handled(5),
        handled(6, outcome=CancellationEffect.NOT_SENT, **closed),
    )
    async with store.reading() as uow:
        found = await uow.cancellations.not_sent([payment(n).key for n in (1, 2, 3, 4, 5)])
    assert found == {payment(1).key: {"consent-1"}}


async def test_cancellations_of_one_order_under_two_consents_both_count(store: Store) -> None:
    first = handled(1, is_open=False, outcome=CancellationEffect.NOT_SENT)
    await remember(store, first, replace(first, cancellation_id="cancellation-2", consent_id=ConsentId("consent-2")))
    async with store.reading() as uow:
        found = await uow.cancellations.not_sent([payment(1).key])
    assert found == {payment(1).key: {"consent-1", "consent-2"}}


async def test_what_waits_is_due_once_the_outcome_is_known_oldest_first(store: Store) -> None:
    states = dict(enumerate(PaymentState, 1))
    async with store.transaction() as uow:
        await uow.payments.insert([payment(n, state=s) for n, s in states.items()])
    await remember(store, *(handled(n) for n in [*states, 99]), handled(50, order=4, is_open=False))
    known = [n for n, s in states.items() if s not in (PaymentState.SENT, PaymentState.UNKNOWN)]
    async with store.transaction() as uow:
        assert await uow.cancellations.lock_due(limit=100) == [handled(n) for n in known]
    async with store.transaction() as uow:
        assert await uow.cancellations.lock_due(limit=2) == [handled(n) for n in known[:2]]


async def test_what_another_worker_holds_is_left_to_it(store: Store) -> None:
    async with store.transaction() as uow:
        await uow.payments.insert([payment(n, state=PaymentState.APPROVED) for n in (1, 2, 3)])
    await remember(store, *(handled(n) for n in (1, 2, 3)))
    async with store.transaction() as first, store.transaction() as second:
        assert await first.cancellations.lock_due(limit=2) == [handled(1), handled(2)]
        assert await second.cancellations.lock_due(limit=2) == [handled(3)]


async def test_an_update_writes_outcome_and_openness_alone(store: Store) -> None:
    async with store.transaction() as uow:
        await uow.payments.insert([payment(n, state=PaymentState.APPROVED) for n in (1, 2)])
    await remember(store, handled(1), handled(2))
    refused = handled(1, outcome=REFUSED, is_open=False)
    async with store.transaction() as uow:
        await uow.cancellations.lock_due(limit=10)
        await uow.cancellations.update([refused])
    async with store.reading() as uow:
        assert await uow.cancellations.handled([handled(1).key, handled(2).key]) == {
            refused.key: refused,
            handled(2).key: handled(2),
        }


# --- refunds ---


async def test_a_refund_comes_back_with_its_original(store: Store) -> None:
    original = payment(1, state=PaymentState.APPROVED)
    refund = refund_of(original, 2)
    async with store.transaction() as uow:
        await uow.payments.insert([original, refund])
    async with store.reading() as uow:
        assert (await uow.payments.find([refund.key]))[refund.key] == refund


async def test_refunded_is_what_may_stand_of_each_payment(store: Store) -> None:
    originals = [payment(n, state=PaymentState.SETTLED) for n in (1, 2, 3)]
    states = list(PaymentState)
    refunds = [refund_of(originals[0], 10 + n, state=s, amount_minor=2**n) for n, s in enumerate(states)]
    refunds.append(refund_of(originals[1], 30, amount_minor=7))
    async with store.transaction() as uow:
        await uow.payments.insert([*originals, *refunds])
        # What the transaction itself wrote counts, too.
        assert await uow.payments.refunded([o.key for o in originals]) == {
            originals[0].key: sum(2**n for n, s in enumerate(states) if s not in NOT_REFUNDED),
            originals[1].key: 7,
        }
    async with store.reading() as uow:
        assert await uow.payments.refunded([originals[2].key]) == {}


async def test_who_waited_for_the_original_sees_what_was_refunded_meanwhile(backend: Backend) -> None:
    original = payment(1, state=PaymentState.APPROVED)
    async with backend.store.transaction() as uow:
        await uow.payments.insert([original])

    async def read() -> dict[object, int]:
        async with backend.store.transaction() as uow:
            await uow.payments.lock([original.key])
            return dict(await uow.payments.refunded([original.key]))

    async with backend.store.transaction() as uow:
        await uow.payments.lock([original.key])
        waiter = asyncio.create_task(read())
        await backend.until_blocked(waiter)
        await uow.payments.insert([refund_of(original, 2, amount_minor=4)])
    assert await waiter == {original.key: 4}


@pytest.mark.parametrize(
    "wrong",
    [
        payment(1, operation=Operation.REFUND),
        payment(1, original_payment_id=payment(2).payment_id),
    ],
    ids=["a refund of nothing", "a purchase with an original"],
)
async def test_refunds_alone_have_an_original(store: Store, wrong: Payment) -> None:
    with pytest.raises(StoreIntegrityError):
        async with store.transaction() as uow:
            await uow.payments.insert([wrong])


async def test_a_scheduled_payment_that_is_cancelled_was_never_sent(store: Store) -> None:
    scheduled = payment(1, state=PaymentState.SCHEDULED)
    async with store.transaction() as uow:
        await uow.payments.insert([scheduled])
    cancelled = structs.replace(scheduled, state=PaymentState.REVERSED, version=2)
    async with store.transaction() as uow:
        await uow.payments.lock([scheduled.key])
        await uow.payments.update([cancelled])
    async with store.reading() as uow:
        assert (await uow.payments.find([scheduled.key]))[scheduled.key] == cancelled
