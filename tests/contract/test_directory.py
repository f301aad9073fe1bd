"""Directory: merchants, and how fresh workers' reports of networks are."""

from msgspec.structs import replace

from gateway.database.unit import Store
from gateway.directory.funding import TokenUse
from schemas.primitives import CustomerId, FundingToken, MerchantId, NetworkId, PartnerId
from tests.contract.conftest import Backend
from tests.support.builders import later
from tests.support.domain_samples import merchant

A, B = NetworkId("net-a"), NetworkId("net-b")


async def report(store: Store, network_id: NetworkId, worker: str, *, is_open: bool, at: float) -> None:
    async with store.transaction() as uow:
        await uow.directory.report_network(network_id, worker=worker, is_open=is_open, now=later(at))


async def open_since(store: Store, at: float) -> frozenset[NetworkId]:
    async with store.reading() as uow:
        return await uow.directory.open_networks(reported_since=later(at))


async def test_merchants_come_back_as_they_were_stored(backend: Backend) -> None:
    left = replace(merchant(active=False, networks=frozenset({"net-a", "net-b"})), merchant_id=MerchantId("left"))
    await backend.put_merchants(merchant(), left)
    async with backend.store.reading() as uow:
        found = await uow.directory.merchants([MerchantId("merchant-1"), MerchantId("left"), MerchantId("nobody")])
        assert found == {"merchant-1": merchant(), "left": left}
        assert await uow.directory.merchants([]) == {}


async def test_a_network_is_open_if_one_worker_says_so_and_said_so_lately(store: Store) -> None:
    await report(store, A, "w1", is_open=True, at=10)
    await report(store, A, "w2", is_open=False, at=11)
    await report(store, B, "w1", is_open=True, at=5)
    assert await open_since(store, 10) == {A}
    assert await open_since(store, 5) == {A, B}
    assert await open_since(store, 10.5) == frozenset()


async def test_a_workers_last_word_counts(store: Store) -> None:
    await report(store, A, "w1", is_open=True, at=10)
    await report(store, A, "w1", is_open=False, at=11)
    assert await open_since(store, 0) == frozenset()
    await report(store, A, "w1", is_open=True, at=12)
    assert await open_since(store, 12) == {A}


async def test_a_paused_network_is_not_open_and_its_workers_hear_of_it(backend: Backend) -> None:
    async def told(network_id: NetworkId, at: float) -> bool:
        async with backend.store.transaction() as uow:
            return await uow.directory.report_network(network_id, worker="w1", is_open=True, now=later(at))

    assert not await told(A, 10)
    async with backend.store.transaction() as uow:
        assert not await uow.directory.is_paused(A)
        await backend.pause_network(A)
        # As of now: whoever decides has waited for locks in this transaction.
        assert await uow.directory.is_paused(A)
        assert not await uow.directory.is_paused(B)
    assert await told(A, 11)
    assert not await told(B, 11)
    assert await open_since(backend.store, 10) == {B}
    await backend.resume_network(A)
    assert not await told(A, 12)
    assert await open_since(backend.store, 10) == {A, B}


def use(token: str = "token-1", customer: str = "customer-1", partner: str = "partner-1") -> TokenUse:
    return TokenUse(FundingToken(token), CustomerId(customer), PartnerId(partner))


async def test_a_token_is_used_by_its_customers_partners_alone(backend: Backend) -> None:
    await backend.put_token("token-2", "customer-2", "partner-2")
    uses = [
        use(),
        use(partner="partner-2"),
        use("token-2", "customer-2", "partner-2"),
        use(customer="customer-2"),  # another's
        use("token-2", partner="partner-2"),  # another's
        use("token-2", "customer-2", "partner-1"),  # not this partner's
        use(partner="nobody"),
        use("nothing"),
    ]
    async with backend.store.reading() as uow:
        assert await uow.directory.usable_tokens(uses) == set(uses[:3])
        assert await uow.directory.usable_tokens([]) == frozenset()


async def test_a_withdrawn_permission_is_seen_at_once_by_a_transaction_that_runs(backend: Backend) -> None:
    async with backend.store.transaction() as uow:
        assert await uow.directory.usable_tokens([use()]) == {use()}
        await backend.withdraw_token("token-1", "partner-1")
        assert await uow.directory.usable_tokens([use()]) == frozenset()
        assert await uow.directory.usable_tokens([use(partner="partner-2")])
