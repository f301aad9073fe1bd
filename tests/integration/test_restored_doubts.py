"""After a restore: payments that nobody was told of, and what their network has cleared, on a real PostgreSQL."""

from msgspec import structs

from gateway.app import restored_doubts
from gateway.app.postgres import PostgresStore
from gateway.app.registries import open_registries
from gateway.payments.restoring.rules import IN_DOUBT, RESTORED
from gateway.payments.rules.lifecycle import PaymentState
from gateway.settlement.rules import Break, BreakKind
from schemas.primitives import NetworkId
from tests.support.builders import NETWORK, NOW, clearing_record, payment
from tests.support.domain_samples import merchant


async def test_a_payment_in_doubt_is_found_under_an_acceptor_that_its_merchant_had_before(
    migrated_database: str,
) -> None:
    doubt = payment(1, state=PaymentState.UNKNOWN, trace=None, reason=IN_DOUBT, sent_by=RESTORED)
    cleared = clearing_record(payment(2))
    async with open_registries(migrated_database) as registries:
        await registries.directory.upsert_merchants([merchant()])
    store = PostgresStore(migrated_database, pool_size=1)
    await store.start()
    try:
        async with store.transaction() as uow:
            await uow.payments.insert([doubt])
            outcome = {1: (None, Break(BreakKind.MISSING_HERE, "no payment of this network has this RRN"))}
            await uow.clearing.add(NetworkId(NETWORK), "c1", [cleared], created_at=NOW, outcomes=outcome)
        other = structs.replace(merchant().acceptor, acceptor_id="ACCEPTOR2")
        async with open_registries(migrated_database) as registries:
            await registries.directory.upsert_merchants([structs.replace(merchant(), acceptor=other)])
        settled = await restored_doubts.settle(migrated_database, NetworkId(NETWORK), complete=True)
        assert [(d.key, c.rrn) for d, c in settled.executed] == [(doubt.key, cleared.rrn)]
        async with store.reading() as uow:
            [found] = (await uow.payments.find([doubt.key])).values()
        assert (found.state, found.trace and found.trace.rrn) == (PaymentState.APPROVED, cleared.rrn)
    finally:
        await store.stop()
