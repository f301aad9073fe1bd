"""Funding tokens in PostgreSQL: stored once, and withdrawn so that nothing follows."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from gateway.adapters.postgres.migrate import migrate
from gateway.adapters.postgres.registry import UnknownPartnerError, open_registry
from gateway.adapters.postgres.store import PostgresStore
from gateway.adapters.postgres.tokens import NewToken, PostgresTokens, SealedToken, open_tokens
from schemas.consents import ConsentStatus
from schemas.primitives import ConsentId, CustomerId, FundingToken, PartnerId
from tests.support.tokens import put_token
from tests.unit.domain_samples import NOW, USE, purpose, terms

TOKEN, PARTNER = USE.token, USE.partner_id


@pytest.fixture
async def tokens(database: str) -> AsyncIterator[PostgresTokens]:
    await migrate(database)
    await put_token(database, *USE)
    async with open_tokens(database) as opened:
        yield opened


def new(name: str, partner: str = PARTNER, ciphertext: bytes = b"c") -> NewToken:
    token = FundingToken(name)
    sealed = SealedToken(token, None, "m1", b"n" * 12, ciphertext)
    return NewToken(token, CustomerId("customer-9"), (PartnerId(partner),), sealed)


async def test_tokens_are_stored_once_and_keep_their_owner_and_card(tokens: PostgresTokens) -> None:
    assert await tokens.put([new("t1"), new("t2")], now=NOW) == {"t1", "t2"}
    other = new("t1", ciphertext=b"other")
    assert await tokens.put([NewToken(other.token, USE.customer_id, (PARTNER,), other.sealed)], now=NOW) == frozenset()
    [stored] = await tokens.find(token=FundingToken("t1"))
    assert (stored.customer_id, stored.partners) == ("customer-9", (PARTNER,))
    assert (await tokens.sealed(FundingToken("t1"))).ciphertext == b"c"  # type: ignore[union-attr]


async def test_a_token_for_a_partner_that_is_not_registered_is_not_stored(tokens: PostgresTokens) -> None:
    with pytest.raises(UnknownPartnerError):
        await tokens.put([new("t1", "nobody")], now=NOW)
    assert await tokens.find(token=FundingToken("t1")) == []


async def test_a_withdrawal_returns_when_no_payment_that_knew_the_permission_can_follow(
    tokens: PostgresTokens, database: str
) -> None:
    """An execution worker that has read the permission holds the consent's lock: the operator's command waits."""
    named = terms(consent_id="c-1"), terms(consent_id="c-2", payment=purpose(funding_token="other"))
    async with open_registry(database) as registry:
        await registry.add_consents([(t, ConsentStatus.AUTH) for t in named])
    store = PostgresStore(database, pool_size=2)
    await store.start()
    watcher = await asyncpg.connect(database)
    try:
        async with store.transaction() as worker:
            await worker.consents.lock([(PARTNER, ConsentId("c-1")), (PARTNER, ConsentId("c-2"))])
            assert await worker.directory.usable_tokens([USE]) == {USE}
            withdrawing = asyncio.create_task(tokens.withdraw(TOKEN, PARTNER, now=NOW))
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            while not await watcher.fetchval(waiting):
                assert not withdrawing.done()
            # Whoever asks from now on is refused, although the command has not returned.
            async with store.reading() as another:
                assert await another.directory.usable_tokens([USE]) == frozenset()
        assert await withdrawing == ["c-1"]
        assert await tokens.withdraw(TOKEN, PARTNER, now=NOW) is None
        await tokens.allow([(TOKEN, PARTNER)], now=NOW)
        async with store.reading() as another:
            assert await another.directory.usable_tokens([USE]) == {USE}
    finally:
        await watcher.close()
        await store.stop()
