"""PaymentStore: one payment a key whatever happens at once, numbers that never repeat, an append-only ledger."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.base.errors import StoreConflictError, StoreIntegrityError
from gateway.database.unit import Store
from gateway.payments.restoring.rules import RESTORED
from gateway.payments.rules.ledger import Transfer, TransferKind
from gateway.payments.rules.lifecycle import PaymentState
from schemas.primitives import NetworkId
from schemas.reasons import Reason, ReasonCode
from tests.contract.conftest import Backend, rolled_back
from tests.support.builders import NETWORK, NOW, later, payment, trace, window

NET = NetworkId(NETWORK)


def transfer(kind: TransferKind = TransferKind.AUTHORISED, amount_minor: int = 10_000) -> Transfer:
    return Transfer(kind, "network:net-a:receivable", "merchant:merchant-1:payable", amount_minor, "KRW")


@pytest.mark.parametrize(
    "stored",
    [
        payment(1),
        payment(2, state=PaymentState.REJECTED, reason=Reason(code=ReasonCode.MD01, text="no consent")),
        payment(
            3,
            state=PaymentState.DECLINED,
            reason=Reason(code=ReasonCode.AM04, text="insufficient funds", network_code="51"),
        ),
        payment(4, approval_code="ABC123", traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01"),
        payment(5, windows=(window("day/calendar/KRW"), window("lifetime/count", NOW - timedelta(days=40)))),
        payment(6, windows=(window("lifetime/KRW", NOW + timedelta(microseconds=123_457)),)),
        payment(7, ordered_at=later(0.123456), partner_id="partner-2"),
    ],
    ids=["sent", "rejected", "declined", "approved", "windows", "windows-of-a-part-of-a-second", "partner"],
)
async def test_payments_come_back_as_they_were_stored(store: Store, stored) -> None:  # type: ignore[no-untyped-def]
    async with store.transaction() as uow:
        assert await uow.payments.insert([stored]) == {stored.key}
    async with store.reading() as uow:
        assert await uow.payments.find([stored.key]) == {stored.key: stored}


async def test_nothing_asked_for_is_nothing_done(store: Store) -> None:
    async with store.transaction() as uow:
        assert await uow.payments.insert([]) == frozenset()
        assert await uow.payments.find([]) == {}
        assert await uow.payments.lock([]) == {}
        assert list(await uow.payments.next_payment_numbers(0)) == []
        await uow.payments.update([])
        await uow.payments.insert_transfers([])


async def test_an_existing_payment_is_left_as_it_is_and_new_ones_beside_it_go_in(store: Store) -> None:
    first = payment(1)
    async with store.transaction() as uow:
        await uow.payments.insert([first])
    async with store.transaction() as uow:
        again = replace(first, amount_minor=1, trace=trace(90))
        assert await uow.payments.insert([again, payment(2)]) == {payment(2).key}
    async with store.reading() as uow:
        assert await uow.payments.find([first.key, payment(2).key]) == {first.key: first, payment(2).key: payment(2)}


async def test_of_two_with_one_key_in_a_batch_the_first_goes_in(store: Store) -> None:
    rejected = payment(1, state=PaymentState.REJECTED)
    async with store.transaction() as uow:
        assert await uow.payments.insert([rejected, replace(rejected, amount_minor=1)]) == {rejected.key}
        assert (await uow.payments.find([rejected.key]))[rejected.key].amount_minor == rejected.amount_minor


async def test_an_insert_waits_for_a_concurrent_one_of_its_key_and_yields_to_it(backend: Backend) -> None:
    first, second = payment(1), payment(1, amount_minor=1, trace=trace(2))

    async def insert() -> frozenset[object]:
        async with backend.store.transaction() as uow:
            return frozenset(await uow.payments.insert([second]))

    async with backend.store.transaction() as uow:
        await uow.payments.insert([first])
        waiter = asyncio.create_task(insert())
        await backend.until_blocked(waiter)
    assert await waiter == frozenset()
    async with backend.store.reading() as uow:
        assert (await uow.payments.find([first.key]))[first.key] == first


async def test_an_insert_that_waited_for_a_rollback_goes_in(backend: Backend) -> None:
    second = payment(1, amount_minor=1, trace=trace(2))

    async def insert() -> frozenset[object]:
        async with backend.store.transaction() as uow:
            return frozenset(await uow.payments.insert([second]))

    async with rolled_back(backend.store) as uow:
        await uow.payments.insert([payment(1)])
        waiter = asyncio.create_task(insert())
        await backend.until_blocked(waiter)
    assert await waiter == {second.key}


async def test_one_rrn_of_a_network_is_never_two_payments(store: Store) -> None:
    async with store.transaction() as uow:
        await uow.payments.insert([payment(1)])
    with pytest.raises(StoreConflictError):
        async with store.transaction() as uow:
            await uow.payments.insert([payment(2, trace=trace(1))])
    async with store.transaction() as uow:
        await uow.payments.insert([payment(3, trace=trace(1), network_id="net-b")])
    async with store.reading() as uow:
        assert set(await uow.payments.find([payment(n).key for n in (1, 2, 3)])) == {payment(1).key, payment(3).key}


async def test_update_writes_where_a_payment_is_and_nothing_else(store: Store) -> None:
    before = payment(1, windows=(window(),))
    why = Reason(code=ReasonCode.AM04, text="insufficient funds", network_code="51")
    async with store.transaction() as uow:
        await uow.payments.insert([before, payment(2)])
    moved = replace(
        before, state=PaymentState.DECLINED, version=2, reason=why, approval_code="A1", changed_at=later(3.5)
    )
    async with store.transaction() as uow:
        await uow.payments.lock([before.key])
        await uow.payments.update([replace(moved, amount_minor=1, windows=(), trace=trace(50))])
    async with store.reading() as uow:
        assert await uow.payments.find([before.key, payment(2).key]) == {before.key: moved, payment(2).key: payment(2)}


async def test_lock_returns_what_the_caller_knows_unless_it_has_changed_since(store: Store) -> None:
    rows = {n: payment(n) for n in (1, 2, 3)}
    async with store.transaction() as uow:
        await uow.payments.insert(list(rows.values()))
        await uow.payments.update([payment(2, state=PaymentState.UNKNOWN, version=2)])
    known = {rows[1].key: rows[1], rows[2].key: rows[2], payment(4).key: payment(4)}
    async with store.transaction() as uow:
        locked = await uow.payments.lock([payment(n).key for n in (1, 2, 3, 4)], known=known)
    assert locked == {
        rows[1].key: rows[1],
        rows[2].key: payment(2, state=PaymentState.UNKNOWN, version=2),
        rows[3].key: rows[3],
    }
    assert locked[rows[1].key] is rows[1]


async def test_in_flight_are_this_consents_payments_whose_outcome_is_open(store: Store) -> None:
    states = list(PaymentState)
    async with store.transaction() as uow:
        await uow.payments.insert([payment(n, state=state) for n, state in enumerate(states, 1)])
        await uow.payments.insert([payment(30, consent_id="other"), payment(31, partner_id="partner-2")])
    async with store.reading() as uow:
        ours, other, none = ("partner-1", "consent-1"), ("partner-1", "other"), ("partner-2", "other")
        found = await uow.payments.in_flight([ours, other, none])  # type: ignore[list-item]
        assert await uow.payments.in_flight([]) == {}
    open_states = (PaymentState.SENT, PaymentState.UNKNOWN, PaymentState.REVERSING)
    assert {k: list(ids) for k, ids in found.items()} == {
        ours: sorted(payment(states.index(s) + 1).payment_id for s in open_states),
        other: [payment(30).payment_id],
    }


async def test_a_payment_that_may_have_been_sent_has_trace_numbers(store: Store) -> None:
    with pytest.raises(StoreIntegrityError):
        async with store.transaction() as uow:
            await uow.payments.insert([payment(1, trace=None)])


async def test_only_what_a_restore_has_forgotten_is_in_doubt_without_trace_numbers(store: Store) -> None:
    fields: dict[str, Any] = {"trace": None, "state": PaymentState.UNKNOWN}
    for wrong in ({"sent_by": "worker-1"}, {"sent_by": None}, {"sent_by": RESTORED, "network_id": None}):
        with pytest.raises(StoreIntegrityError):
            async with store.transaction() as uow:
                await uow.payments.insert([payment(1, **(fields | wrong))])
    for state in (PaymentState.SENT, PaymentState.APPROVED, PaymentState.REVERSING):
        with pytest.raises(StoreIntegrityError):
            async with store.transaction() as uow:
                await uow.payments.insert([payment(1, sent_by=RESTORED, trace=None, state=state)])
    doubtful = payment(1, sent_by=RESTORED, **fields)
    async with store.transaction() as uow:
        await uow.payments.add([doubtful])
        assert await uow.payments.find([doubtful.key]) == {doubtful.key: doubtful}


async def test_numbers_are_given_out_once_to_concurrent_transactions(store: Store) -> None:
    async def take() -> list[int]:
        async with store.transaction() as uow:
            return [*await uow.payments.next_payment_numbers(5), *await uow.payments.next_payment_numbers(1)]

    received = [n for batch in await asyncio.gather(*(take() for _ in range(6))) for n in batch]
    assert len(set(received)) == len(received) == 36
    assert min(received) >= 1


async def test_payments_and_follow_ups_count_apart(store: Store) -> None:
    async with store.transaction() as uow:
        (before,) = await uow.payments.next_follow_up_numbers(1)
        await uow.payments.next_payment_numbers(10)
        assert list(await uow.payments.next_follow_up_numbers(1)) == [before + 1]


async def test_a_ledger_holds_one_transfer_of_a_kind_a_payment(backend: Backend) -> None:
    key = payment(1).key
    async with backend.store.transaction() as uow:
        await uow.payments.insert_transfers(
            [(key, transfer(), NOW), (key, transfer(TransferKind.SETTLED), NOW), (payment(2).key, transfer(), NOW)]
        )
    with pytest.raises(StoreIntegrityError):
        async with backend.store.transaction() as uow:
            await uow.payments.insert_transfers([(payment(3).key, transfer(), NOW), (key, transfer(), NOW)])
    accounts = ("network:net-a:receivable", "merchant:merchant-1:payable", 10_000)
    assert await backend.ledger() == [("authorised", *accounts), ("authorised", *accounts), ("settled", *accounts)]


async def test_a_payment_is_settled_again_only_after_its_settlement_was_undone(backend: Backend) -> None:
    key = payment(1).key
    settled, undone = transfer(TransferKind.SETTLED), transfer(TransferKind.SETTLEMENT_UNDONE)
    again = replace(settled, repeated=True)
    for kind in (settled, undone, again, undone, again):
        async with backend.store.transaction() as uow:
            await uow.payments.insert_transfers([(key, kind, NOW)])
    for twice in ([again], [undone, undone], [undone, settled]):
        with pytest.raises(StoreIntegrityError):
            async with backend.store.transaction() as uow:
                await uow.payments.insert_transfers([(key, t, NOW) for t in twice])
    assert [kind for kind, *_ in await backend.ledger()] == ["settled"] * 3 + ["settlement_undone"] * 2


@pytest.mark.parametrize("bad", [transfer(amount_minor=0), replace(transfer(), debit="x", credit="x")])
async def test_a_transfer_moves_something_from_one_account_to_another(backend: Backend, bad: Transfer) -> None:
    with pytest.raises(StoreIntegrityError):
        async with backend.store.transaction() as uow:
            await uow.payments.insert_transfers([(payment(1).key, bad, NOW)])
    assert await backend.ledger() == []


async def test_abandoned_are_this_networks_oldest_that_are_still_sent(store: Store) -> None:
    rows = [
        payment(1, decided_at=later(-50)),
        payment(2, decided_at=later(-60)),
        payment(3, decided_at=later(-55)),
        payment(4, decided_at=later(-40)),
        payment(5, decided_at=later(-90), network_id="net-b"),
        payment(6, decided_at=later(-90), state=PaymentState.APPROVED),
        payment(7, decided_at=later(-90), state=PaymentState.UNKNOWN),
    ]
    async with store.transaction() as uow:
        await uow.payments.insert(rows)
        found = await uow.payments.abandoned(NET, alive_since=later(-5), sent_before=later(-45), limit=10)
        assert list(found) == [payment(n).key for n in (2, 3, 1, 4)]
        assert (
            list(await uow.payments.abandoned(NET, alive_since=later(-5), sent_before=later(-45), limit=2))
            == (list(found)[:2])
        )


async def test_what_a_living_worker_sends_is_abandoned_only_when_it_is_too_old(store: Store) -> None:
    rows = [
        payment(1, decided_at=later(-50), sent_by="alive"),
        payment(2, decided_at=later(-9), sent_by="alive"),
        payment(3, decided_at=later(-8), sent_by="silent"),
        payment(4, decided_at=later(-7), sent_by="elsewhere"),
        payment(5, decided_at=later(-6), sent_by="unheard-of"),
    ]
    async with store.transaction() as uow:
        await uow.payments.insert(rows)
        for worker, network, seconds in (("alive", NETWORK, -1), ("silent", NETWORK, -6), ("elsewhere", "net-b", -1)):
            await uow.directory.report_network(NetworkId(network), worker=worker, is_open=True, now=later(seconds))
        found = await uow.payments.abandoned(NET, alive_since=later(-5), sent_before=later(-45), limit=10)
        assert list(found) == [payment(n).key for n in (1, 3, 4, 5)]
        assert (await uow.payments.find([payment(1).key]))[payment(1).key].sent_by == "alive"


async def test_payments_are_found_by_the_reference_that_they_were_sent_under(store: Store) -> None:
    async with store.transaction() as uow:
        await uow.payments.insert([payment(1), payment(2), payment(3, network_id="net-b")])
        rrns = [p.trace.rrn for n in (1, 3) if (p := payment(n)).trace]
        assert await uow.payments.keys_by_rrn(NET, [*rrns, "none"]) == {rrns[0]: payment(1).key}


async def test_open_outcomes_are_counted_by_state_and_network_with_the_oldest(store: Store) -> None:
    rows = [
        payment(1, changed_at=later(-3)),
        payment(2, changed_at=later(-9), network_id="net-b"),
        payment(3, state=PaymentState.UNKNOWN, changed_at=later(-5)),
        payment(4, state=PaymentState.APPROVED, changed_at=later(-99)),
        payment(5, state=PaymentState.REVERSED, changed_at=later(-99)),
    ]
    async with store.transaction() as uow:
        assert await uow.payments.open_since() == {}
        await uow.payments.insert(rows)
        assert await uow.payments.open_since() == {
            (PaymentState.SENT, NET): (1, later(-3)),
            (PaymentState.SENT, "net-b"): (1, later(-9)),
            (PaymentState.UNKNOWN, NET): (1, later(-5)),
        }
