"""Store: what commits together, what others see of it, and how locks wait."""

import asyncio

from gateway.app.unit import GatewayUnit
from gateway.base.errors import StoreConflictError
from gateway.base.keys import ConsentKey
from gateway.database.unit import Store
from gateway.payments.rules.lifecycle import PaymentState
from tests.contract.conftest import Backend, ended, rolled_back
from tests.support.builders import outbox_event, payment
from tests.support.domain_samples import consent
from tests.support.leading import led

CONSENT_A: ConsentKey = ("partner-1", "a")  # type: ignore[assignment]
CONSENT_B: ConsentKey = ("partner-1", "b")  # type: ignore[assignment]


async def test_what_one_transaction_writes_is_seen_by_others_only_once_it_commits(store: Store) -> None:
    one = payment(1)
    async with store.transaction() as uow:
        await uow.payments.insert([one])
        assert await uow.payments.find([one.key]) == {one.key: one}
        async with store.reading() as outside:
            assert await outside.payments.find([one.key]) == {}
    async with store.reading() as outside:
        assert await outside.payments.find([one.key]) == {one.key: one}


async def test_each_statement_sees_what_has_committed_before_it(store: Store) -> None:
    one = payment(1)
    async with store.transaction() as uow:
        assert await uow.payments.find([one.key]) == {}
        async with store.transaction() as other:
            await other.payments.insert([one])
        assert await uow.payments.find([one.key]) == {one.key: one}


async def test_a_block_that_raises_leaves_nothing_but_the_numbers_it_took(backend: Backend) -> None:
    one = payment(1)
    async with rolled_back(backend.store) as uow:
        received = await uow.payments.next_payment_numbers(3)
        followed = await uow.payments.next_follow_up_numbers(2)
        await uow.payments.insert([one])
        await uow.outbox.append([outbox_event("lost")])
    async with backend.store.transaction() as uow:
        assert await uow.payments.find([one.key]) == {}
        assert min(await uow.payments.next_payment_numbers(2)) > max(received)
        assert min(await uow.payments.next_follow_up_numbers(1)) > max(followed)
    reader = await led(backend.reader())
    assert await reader.read(10) == []


async def test_a_cancelled_block_leaves_nothing_and_frees_its_locks(backend: Backend) -> None:
    await backend.put_consents(consent(consent_id="a"))
    locked = asyncio.Event()

    async def hold() -> None:
        async with backend.store.transaction() as uow:
            await uow.consents.lock([CONSENT_A])
            await uow.payments.insert([payment(1)])
            locked.set()
            await asyncio.Event().wait()

    holder = asyncio.create_task(hold())
    await locked.wait()
    await ended([holder])
    async with backend.store.transaction() as uow:
        assert set(await uow.consents.lock([CONSENT_A])) == {CONSENT_A}
        assert await uow.payments.find([payment(1).key]) == {}


async def test_a_lock_waits_until_its_holder_commits_and_then_sees_what_it_wrote(backend: Backend) -> None:
    one, store = payment(1), backend.store
    async with store.transaction() as uow:
        await uow.payments.insert([one])

    async def lock_and_read() -> PaymentState:
        async with store.transaction() as uow:
            return (await uow.payments.lock([one.key]))[one.key].state

    async with store.transaction() as uow:
        await uow.payments.lock([one.key])
        waiter = asyncio.create_task(lock_and_read())
        await backend.until_blocked(waiter)
        await uow.payments.update([payment(1, state=PaymentState.APPROVED, version=2)])
    assert await waiter is PaymentState.APPROVED


async def test_a_lock_that_waited_for_a_rollback_sees_the_row_as_it_was(backend: Backend) -> None:
    one, store = payment(1), backend.store
    async with store.transaction() as uow:
        await uow.payments.insert([one])

    async def lock_and_read() -> PaymentState:
        async with store.transaction() as uow:
            return (await uow.payments.lock([one.key]))[one.key].state

    async with rolled_back(store) as uow:
        await uow.payments.lock([one.key])
        waiter = asyncio.create_task(lock_and_read())
        await backend.until_blocked(waiter)
        await uow.payments.update([payment(1, state=PaymentState.APPROVED, version=2)])
    assert await waiter is PaymentState.SENT


async def test_keys_given_in_opposite_orders_do_not_deadlock(backend: Backend) -> None:
    keys = [CONSENT_A, CONSENT_B]
    await backend.put_consents(consent(consent_id="a"), consent(consent_id="b"))
    order: list[str] = []

    async def lock(name: str, wanted: list[ConsentKey]) -> None:
        async with backend.store.transaction() as uow:
            await uow.consents.lock(wanted)
            order.append(f"{name} in")
            await asyncio.sleep(0)
            order.append(f"{name} out")

    await asyncio.gather(*(lock(f"t{i}", keys if i % 2 else keys[::-1]) for i in range(8)))
    assert len(order) == 16
    # One at a time: each that went in came out before the next.
    assert [o.split()[0] for o in order[::2]] == [o.split()[0] for o in order[1::2]]


async def test_who_holds_a_consent_still_lets_payments_go_on_and_makes_changes_wait(backend: Backend) -> None:
    """As shares and aggregates hold them: others hold them too, and pay under them; nobody changes them meanwhile."""
    await backend.put_consents(consent(consent_id="a"))
    store, order = backend.store, list[str]()

    async def change() -> None:
        async with store.transaction() as uow:
            assert set(await uow.consents.lock_records([CONSENT_A])) == {CONSENT_A}
            order.append("changed")

    async with store.transaction() as sharing:
        assert set(await sharing.consents.hold([CONSENT_A])) == {CONSENT_A}
        async with asyncio.timeout(60), store.transaction() as paying:
            assert set(await paying.consents.lock([CONSENT_A])) == {CONSENT_A}
            async with store.transaction() as other:
                assert set(await other.consents.hold([CONSENT_A])) == {CONSENT_A}
        changing = asyncio.create_task(change())
        await backend.until_blocked(changing)
        order.append("shared")
    await changing
    assert order == ["shared", "changed"]


async def test_who_would_hold_a_consent_waits_for_who_changes_it(backend: Backend) -> None:
    await backend.put_consents(consent(consent_id="a"))
    store, order = backend.store, list[str]()

    async def share() -> None:
        async with store.transaction() as uow:
            assert set(await uow.consents.hold([CONSENT_A])) == {CONSENT_A}
            order.append("shared")

    async with store.transaction() as changing:
        await changing.consents.lock_records([CONSENT_A])
        sharing = asyncio.create_task(share())
        await backend.until_blocked(sharing)
        order.append("changed")
    await sharing
    assert order == ["changed", "shared"]


async def test_two_who_hold_a_consent_and_would_change_it_wait_for_each_other(backend: Backend) -> None:
    await backend.put_consents(consent(consent_id="a"))
    both = asyncio.Barrier(2)

    async def change() -> None:
        async with backend.store.transaction() as uow:
            await uow.consents.hold([CONSENT_A])
            await both.wait()
            await uow.consents.lock_records([CONSENT_A])

    ends = await asyncio.gather(change(), change(), return_exceptions=True)
    assert sorted(type(e).__name__ for e in ends) == ["NoneType", "StoreConflictError"]


async def test_two_transactions_that_wait_for_each_other_cost_one_of_them_its_work(backend: Backend) -> None:
    await backend.put_consents(consent(consent_id="a"), consent(consent_id="b"))
    both = asyncio.Barrier(2)

    async def lock(first: ConsentKey, then: ConsentKey) -> None:
        async with backend.store.transaction() as uow:
            await uow.consents.lock([first])
            await both.wait()
            await uow.consents.lock([then])

    ends = await asyncio.gather(lock(CONSENT_A, CONSENT_B), lock(CONSENT_B, CONSENT_A), return_exceptions=True)
    assert sorted(type(e).__name__ for e in ends) == ["NoneType", "StoreConflictError"]
    assert any(isinstance(e, StoreConflictError) for e in ends)


async def test_rows_that_another_transaction_is_inserting_are_neither_seen_nor_waited_for(store: Store) -> None:
    one = payment(1)
    async with store.transaction() as uow:
        await uow.payments.insert([one])
        async with asyncio.timeout(60), store.transaction() as other:
            assert await other.payments.lock([one.key]) == {}


async def write_everything(uow: GatewayUnit) -> None:
    await uow.payments.insert([payment(7)])
    await uow.outbox.append([outbox_event("seven")])


async def test_everything_in_a_block_commits_together(backend: Backend) -> None:
    async with backend.store.transaction() as uow:
        await write_everything(uow)
    reader = await led(backend.reader())
    assert [r.event.event_id for r in await reader.read(10)] == ["seven"]
    async with backend.store.reading() as outside:
        assert set(await outside.payments.find([payment(7).key])) == {payment(7).key}
