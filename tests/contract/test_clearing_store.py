"""ClearingStore: every record once, matched payments under lock."""

import asyncio

import pytest
from msgspec import structs

from gateway.base.errors import StoreConflictError, StoreIntegrityError
from gateway.database.unit import Store
from gateway.payments.rules.lifecycle import PaymentState
from gateway.settlement.rules import Break, BreakKind, ClearedPayment, StoredRecord
from schemas.primitives import MerchantId, NetworkId
from tests.contract.conftest import Backend
from tests.support.builders import NETWORK, NOW, TERMINAL, clearing_record, later, payment, trace
from tests.support.domain_samples import merchant

NET, OTHER = NetworkId(NETWORK), NetworkId("net-b")


async def add(store: Store, *numbers: int, network_id: NetworkId = NET, cycle_id: str = "c1") -> None:
    async with store.transaction() as uow:
        records = [clearing_record(payment(1), n) for n in numbers]
        await uow.clearing.add(network_id, cycle_id, records, created_at=NOW)


async def recorded(store: Store, *, network_id: NetworkId = NET, cycle_id: str = "c1") -> set[int]:
    async with store.transaction() as uow:
        return set(await uow.clearing.lock(network_id, cycle_id, [*range(1, 9)]))


async def test_a_record_goes_in_once_a_network_and_cycle(store: Store) -> None:
    await add(store, 1, 2)
    with pytest.raises(StoreConflictError):
        await add(store, 3, 2)
    # All of them or none.
    assert await recorded(store) == {1, 2}
    await add(store, 3)
    await add(store, 1, cycle_id="c2")
    await add(store, 1, network_id=OTHER)
    await add(store)
    assert await recorded(store) == {1, 2, 3}
    assert await recorded(store, cycle_id="c2") == await recorded(store, network_id=OTHER) == {1}


async def test_of_two_imports_at_once_one_gets_the_record(backend: Backend) -> None:
    async with backend.store.transaction() as uow:
        await uow.clearing.add(NET, "c1", [clearing_record(payment(1), 1)], created_at=NOW)
        second = asyncio.create_task(add(backend.store, 1))
        await backend.until_blocked(second)
    with pytest.raises(StoreConflictError):
        await second


async def test_records_go_in_by_their_numbers(backend: Backend) -> None:
    """So two imports of the same records wait for each other in one direction."""
    async with backend.store.transaction() as uow:
        await uow.clearing.add(NET, "c1", [clearing_record(payment(1), 1)], created_at=NOW)
        # It waits for the first of its records, and holds none of the others meanwhile.
        second = asyncio.create_task(add(backend.store, 3, 1))
        await backend.until_blocked(second)
        await uow.clearing.add(NET, "c1", [clearing_record(payment(1), 3)], created_at=NOW)
    with pytest.raises(StoreConflictError):
        await second
    assert await recorded(backend.store) == {1, 3}


async def test_payments_are_found_by_network_and_rrn_with_what_matching_needs(store: Store) -> None:
    one = payment(1, state=PaymentState.APPROVED, amount_minor=777)
    async with store.transaction() as uow:
        await uow.payments.insert([one, payment(2), payment(3, network_id="net-b")])
        found = await uow.clearing.payments_by_rrn(NET, [trace(n).rrn for n in (1, 3, 4)])
    assert found == {trace(1).rrn: one}
    assert ClearedPayment.of(found[trace(1).rrn]) == ClearedPayment(
        *one.key, PaymentState.APPROVED, one.operation, 777, "KRW", one.merchant_id, 1, TERMINAL
    )


async def test_found_payments_are_locked(backend: Backend) -> None:
    one, store = payment(1), backend.store
    async with store.transaction() as uow:
        await uow.payments.insert([one])

    async def approve() -> None:
        async with store.transaction() as uow:
            await uow.payments.lock([one.key])
            await uow.payments.update([payment(1, state=PaymentState.APPROVED, version=2)])

    async with store.transaction() as uow:
        await uow.clearing.payments_by_rrn(NET, [trace(1).rrn])
        waiter = asyncio.create_task(approve())
        await backend.until_blocked(waiter)
    await waiter


async def test_outcomes_are_noted_by_record(backend: Backend) -> None:
    one = payment(1)
    await add(backend.store, 1, 2, 3)
    async with backend.store.transaction() as uow:
        await uow.payments.insert([one])
        await uow.clearing.write_outcomes(
            NET, "c1", [(1, one.key, None), (2, None, Break(BreakKind.MISSING_HERE, "no payment"))]
        )
        await uow.clearing.write_outcomes(NET, "c1", [])
    assert await backend.outcomes() == {1: (one.payment_id, None), 2: (None, "missing_here"), 3: (None, None)}


async def test_a_new_record_is_written_with_its_outcome(backend: Backend) -> None:
    one = payment(1)
    records = [clearing_record(payment(n), n) for n in (3, 1, 2)]
    outcomes = {1: (one.key, None), 2: (None, Break(BreakKind.MISSING_HERE, "no payment"))}
    async with backend.store.transaction() as uow:
        await uow.payments.insert([one])
        await uow.clearing.add(NET, "c1", records, created_at=NOW, outcomes=outcomes)
        assert (await uow.clearing.lock(NET, "c1", [2]))[2].found == Break(BreakKind.MISSING_HERE, "no payment")
    assert await backend.outcomes() == {1: (one.payment_id, None), 2: (None, "missing_here"), 3: (None, None)}


@pytest.mark.parametrize("number", [1, 2])
async def test_a_new_record_names_no_payment_of_another_number_nor_one_that_is_settled(
    store: Store, number: int
) -> None:
    one = payment(1, state=PaymentState.APPROVED)
    async with store.transaction() as uow:
        await uow.payments.insert([one])
        await uow.clearing.add(NET, "c1", [clearing_record(one, 1)], created_at=NOW, outcomes={1: (one.key, None)})
    with pytest.raises(StoreIntegrityError):
        async with store.transaction() as uow:
            await uow.clearing.add(
                NET, "c1", [clearing_record(payment(number), 2)], created_at=NOW, outcomes={2: (one.key, None)}
            )


async def test_breaks_are_found_again_once_their_payments_have_moved_on(store: Store) -> None:
    states = {
        1: PaymentState.UNKNOWN,
        2: PaymentState.UNKNOWN,
        3: PaymentState.APPROVED,
        4: PaymentState.SETTLED,
    }
    kinds = {
        1: BreakKind.NOT_APPROVED,
        2: BreakKind.NOT_APPROVED,
        3: BreakKind.AMOUNT_DIFFERS,
        4: BreakKind.DUPLICATE,
    }
    records = {n: clearing_record(payment(n), n) for n in states}
    async with store.transaction() as uow:
        await uow.payments.insert([payment(n, state=state) for n, state in states.items()])
        await uow.clearing.add(NET, "c1", list(records.values()), created_at=NOW)
        await uow.clearing.write_outcomes(
            NET, "c1", [(n, payment(n).key, Break(kind, "why")) for n, kind in kinds.items()]
        )
    async with store.transaction() as uow:
        assert await uow.clearing.moved_since(10) == []
        await uow.payments.lock([payment(2).key])
        await uow.payments.update([payment(2, state=PaymentState.APPROVED, version=2)])
        assert await uow.clearing.moved_since(10) == [(NET, "c1", records[2])]
        assert await uow.clearing.moved_since(0) == []
        await uow.clearing.write_outcomes(NET, "c1", [(2, payment(2).key, None)])
        assert await uow.clearing.moved_since(10) == []
        # Undone after it was cleared, in whatever order: it is another break.
        for state in PaymentState:
            await uow.payments.lock([payment(1).key])
            await uow.payments.update([payment(1, state=state, version=2)])
            moved = state in ("approved", "settled", "reversing", "reversed")
            assert await uow.clearing.moved_since(10) == ([(NET, "c1", records[1])] if moved else [])
        await uow.payments.update([payment(1, state=PaymentState.DECLINED, version=2)])
        # What had settled it was corrected.
        await uow.payments.lock([payment(4).key])
        await uow.payments.update([payment(4, state=PaymentState.APPROVED, version=2)])
        assert await uow.clearing.moved_since(10) == [(NET, "c1", records[4])]


async def test_a_correction_puts_what_it_supersedes_aside_with_its_outcome(store: Store) -> None:
    one = payment(1)
    wrong, right, third = (clearing_record(one, 1, amount_minor=n) for n in (5, 6, 7))
    other = clearing_record(payment(2), 2)
    async with store.transaction() as uow:
        await uow.payments.insert([one, payment(2)])
        await uow.clearing.add(NET, "c1", [wrong, other], created_at=NOW)
        await uow.clearing.write_outcomes(NET, "c1", [(1, one.key, Break(BreakKind.AMOUNT_DIFFERS, "why"))])
    async with store.transaction() as uow:
        assert await uow.clearing.lock(NET, "c1", [1, 3]) == {
            1: StoredRecord(wrong, NOW, one.key, Break(BreakKind.AMOUNT_DIFFERS, "why"))
        }
        await uow.clearing.supersede(NET, "c1", [right], created_at=later(60), now=later(70))
        await uow.clearing.write_outcomes(NET, "c1", [(1, one.key, None)])
    async with store.transaction() as uow:
        assert await uow.clearing.lock(NET, "c1", [1]) == {1: StoredRecord(right, later(60), one.key, None)}
        await uow.clearing.supersede(NET, "c1", [third], created_at=later(80), now=later(90))
        assert await uow.clearing.lock(NET, "c1", [1, 2]) == {
            1: StoredRecord(third, later(80), None, None),
            2: StoredRecord(other, NOW, None, None),
        }
        assert await uow.clearing.earlier(NET, "c1", [1, 2]) == {1: [wrong, right]}
        assert await uow.clearing.earlier(NetworkId("net-b"), "c1", [1]) == {}


async def test_a_later_file_with_the_same_record_is_remembered_and_an_older_is_not(store: Store) -> None:
    await add(store, 1)
    for at, stands in ((60, 60), (30, 60), (90, 90)):
        async with store.transaction() as uow:
            await uow.clearing.confirm(NET, "c1", [1, 2], created_at=later(at))
            assert (await uow.clearing.lock(NET, "c1", [1]))[1].created_at == later(stands)


async def test_locked_records_are_waited_for(backend: Backend) -> None:
    await add(backend.store, 1, 2)

    async def look() -> None:
        async with backend.store.transaction() as uow:
            await uow.clearing.lock(NET, "c1", [1, 2])

    async with backend.store.transaction() as uow:
        await uow.clearing.lock(NET, "c1", [2])
        waiter = asyncio.create_task(look())
        await backend.until_blocked(waiter)
    await waiter


async def test_breaks_that_another_transaction_looks_at_are_left_to_it(backend: Backend) -> None:
    one = payment(1, state=PaymentState.APPROVED)
    async with backend.store.transaction() as uow:
        await uow.payments.insert([one])
        await uow.clearing.add(NET, "c1", [clearing_record(one, 1)], created_at=NOW)
        await uow.clearing.write_outcomes(NET, "c1", [(1, one.key, Break(BreakKind.NOT_APPROVED, "why"))])
    async with backend.store.transaction() as uow, backend.store.transaction() as other:
        assert len(await uow.clearing.moved_since(10)) == 1
        assert await other.clearing.moved_since(10) == []


async def test_a_merchant_s_acceptors_are_today_s_and_those_of_before(backend: Backend) -> None:
    known = merchant()
    for acceptor_id in ("A1", "A1", "A2", "A3", "A1", "A2"):
        acceptor = structs.replace(known.acceptor, acceptor_id=acceptor_id)
        await backend.put_merchants(structs.replace(known, acceptor=acceptor))
    async with backend.store.transaction() as uow:
        found = await uow.clearing.acceptors([known.merchant_id, MerchantId("nobody")])
        assert found == {known.merchant_id: {"A1", "A2", "A3"}}
        assert await uow.clearing.acceptors([]) == {}


async def test_another_acceptor_is_looked_at_again_once_it_is_the_merchant_s(backend: Backend) -> None:
    known, one = merchant(), payment(1, state=PaymentState.APPROVED)
    # Whose it is meanwhile is another merchant.
    theirs = structs.replace(known.acceptor, acceptor_id="THEIRS")
    await backend.put_merchants(known, structs.replace(known, merchant_id=MerchantId("merchant-2"), acceptor=theirs))
    record = clearing_record(one, 1, acceptor_id="THEIRS ")
    async with backend.store.transaction() as uow:
        await uow.payments.insert([one])
        await uow.clearing.add(NET, "c1", [record], created_at=NOW)
        await uow.clearing.write_outcomes(NET, "c1", [(1, one.key, Break(BreakKind.ACCEPTOR_DIFFERS, "why"))])
    async with backend.store.transaction() as uow:
        assert await uow.clearing.moved_since(10) == []
    for acceptor_id in ("THEIRS", "ANOTHER"):
        acceptor = structs.replace(known.acceptor, acceptor_id=acceptor_id)
        await backend.put_merchants(structs.replace(known, acceptor=acceptor))
        async with backend.store.transaction() as uow:
            assert await uow.clearing.moved_since(10) == [(NET, "c1", record)]


@pytest.mark.parametrize(("network_id", "number"), [(OTHER, 1), (NET, 2)])
async def test_no_record_names_a_payment_of_another_network_or_number(
    store: Store, network_id: NetworkId, number: int
) -> None:
    one = payment(1, state=PaymentState.APPROVED)
    async with store.transaction() as uow:
        await uow.payments.insert([one, payment(2)])
        await uow.clearing.add(network_id, "c1", [clearing_record(payment(number), 1)], created_at=NOW)
    for found in (None, Break(BreakKind.AMOUNT_DIFFERS, "why")):
        with pytest.raises(StoreIntegrityError):
            async with store.transaction() as uow:
                await uow.clearing.write_outcomes(network_id, "c1", [(1, one.key, found)])


async def test_two_records_never_settle_one_payment(store: Store) -> None:
    one = payment(1, state=PaymentState.APPROVED)
    async with store.transaction() as uow:
        await uow.payments.insert([one])
        await uow.clearing.add(NET, "c1", [clearing_record(one, n) for n in (1, 2)], created_at=NOW)
        await uow.clearing.write_outcomes(NET, "c1", [(1, one.key, None)])
    async with store.transaction() as uow:
        await uow.clearing.write_outcomes(NET, "c1", [(2, one.key, Break(BreakKind.DUPLICATE, "why"))])
    with pytest.raises(StoreIntegrityError):
        async with store.transaction() as uow:
            await uow.clearing.write_outcomes(NET, "c1", [(2, one.key, None)])
