"""Funding tokens in PostgreSQL: stored once, and withdrawn so that nothing follows."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from gateway.app.postgres import PostgresStore
from gateway.app.registries import Registries, open_registries, withdraw_token
from gateway.app.resealing import key_uses, reseal_all, set_aside
from gateway.base.errors import StoreUnfinishedError
from gateway.database import sessions
from gateway.directory.cards import CardSealer, MasterKeyRing
from gateway.directory.funding import NewToken, OwnedToken, SealedToken, TokenUse
from gateway.directory.partners import UnknownPartnerError
from gateway.directory.store import OpenedCards, Unopened
from gateway.directory.tokens import PostgresTokens
from gateway.directory.vault import PostgresTokenVault
from gateway.network.exchange import CardData
from gateway.sealing.sealing import MasterKeys, Purpose, Sealed
from gateway.views.tokens import StoredToken, TokensView
from schemas.consents import ConsentStatus
from schemas.primitives import ConsentId, CustomerId, FundingToken, PartnerId
from tests.support.domain_samples import NOW, USE, purpose, terms
from tests.support.tokens import put_token

TOKEN, PARTNER = USE.token, USE.partner_id
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@pytest.fixture
def database(migrated_database: str) -> str:
    return migrated_database


@pytest.fixture
async def registries(database: str) -> AsyncIterator[Registries]:
    await put_token(database, *USE)
    async with open_registries(database) as registries:
        yield registries


@pytest.fixture
def tokens(registries: Registries) -> PostgresTokens:
    return registries.tokens


async def found(database: str, token: str) -> list[StoredToken]:
    async with TokensView.opened(database) as tokens:
        return await tokens.find(token=FundingToken(token))


def new(name: str, partner: str = PARTNER, ciphertext: bytes = b"c") -> NewToken:
    token = FundingToken(name)
    sealed = SealedToken(token, None, "m1", b"n" * 12, ciphertext)
    return NewToken(token, CustomerId("customer-9"), (PartnerId(partner),), sealed)


async def test_tokens_are_stored_once_and_keep_their_owner_and_card(tokens: PostgresTokens, database: str) -> None:
    assert await tokens.put([new("t1"), new("t2")], now=NOW) == {"t1", "t2"}
    other = new("t1", ciphertext=b"other")
    assert await tokens.put([NewToken(other.token, USE.customer_id, (PARTNER,), other.sealed)], now=NOW) == frozenset()
    [stored] = await found(database, "t1")
    assert (stored.customer_id, stored.partners) == ("customer-9", (PARTNER,))
    assert (await tokens.sealed(FundingToken("t1"))).ciphertext == b"c"  # type: ignore[union-attr]


async def test_a_token_for_a_partner_that_is_not_registered_is_not_stored(
    tokens: PostgresTokens, database: str
) -> None:
    with pytest.raises(UnknownPartnerError):
        await tokens.put([new("t1", "nobody")], now=NOW)
    assert await found(database, "t1") == []


async def test_who_waited_for_a_lock_sees_what_was_written_whatever_isolation_the_database_begins_with(
    registries: Registries, database: str
) -> None:
    """At REPEATABLE READ it would pay with a token that was withdrawn meanwhile, and beyond limits."""
    await registries.consents.add_consents([(terms(consent_id="c-1"), ConsentStatus.AUTH)])
    watcher = await asyncpg.connect(database)
    name = await watcher.fetchval("SELECT quote_ident(current_database())")
    await watcher.execute(f"ALTER DATABASE {name} SET default_transaction_isolation TO 'repeatable read'")
    store = PostgresStore(database, pool_size=2)
    await store.start()

    async def decide() -> frozenset[TokenUse]:
        async with store.transaction() as worker:
            await worker.consents.lock([(PARTNER, ConsentId("c-1"))])
            return await worker.directory.usable_tokens([USE])

    try:
        async with store.transaction() as first:
            await first.consents.lock([(PARTNER, ConsentId("c-1"))])
            deciding = asyncio.create_task(decide())
            while not await watcher.fetchval(WAITING):
                assert not deciding.done()
            async with open_registries(database) as others:
                assert await others.tokens.withdraw(TOKEN, PARTNER, now=NOW)
        assert await deciding == frozenset()
    finally:
        await store.stop()
        await watcher.close()


async def test_a_withdrawal_stands_where_a_payment_that_knew_the_permission_goes_on_for_too_long(
    registries: Registries, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "COMMAND_TIMEOUT_S", 1.0)
    await registries.consents.add_consents([(terms(consent_id="c-1"), ConsentStatus.AUTH)])
    store = PostgresStore(database, pool_size=2)
    await store.start()
    try:
        async with store.transaction() as worker:
            await worker.consents.lock([(PARTNER, ConsentId("c-1"))])
            with pytest.raises(StoreUnfinishedError):
                await withdraw_token(database, TOKEN, PARTNER, now=NOW)
        async with store.reading() as another:
            assert await another.directory.usable_tokens([USE]) == frozenset()
    finally:
        await store.stop()


async def test_a_withdrawal_returns_when_no_payment_that_knew_the_permission_can_follow(
    registries: Registries, database: str
) -> None:
    """An execution worker that has read the permission holds the consent's lock: the operator's command waits."""
    named = terms(consent_id="c-1"), terms(consent_id="c-2", payment=purpose(funding_token="other"))
    await registries.consents.add_consents([(t, ConsentStatus.AUTH) for t in named])
    store = PostgresStore(database, pool_size=2)
    await store.start()
    watcher = await asyncpg.connect(database)
    try:
        async with store.transaction() as worker:
            await worker.consents.lock([(PARTNER, ConsentId("c-1")), (PARTNER, ConsentId("c-2"))])
            assert await worker.directory.usable_tokens([USE]) == {USE}
            withdrawing = asyncio.create_task(withdraw_token(database, TOKEN, PARTNER, now=NOW))
            while not await watcher.fetchval(WAITING):
                assert not withdrawing.done()
            # Whoever asks from now on is refused, although the command has not returned.
            async with store.reading() as another:
                assert await another.directory.usable_tokens([USE]) == frozenset()
        assert await withdrawing == ["c-1"]
        assert await withdraw_token(database, TOKEN, PARTNER, now=NOW) is None
        await registries.tokens.allow([(TOKEN, PARTNER)], now=NOW)
        async with store.reading() as another:
            assert await another.directory.usable_tokens([USE]) == {USE}
    finally:
        await watcher.close()
        await store.stop()


# --- sealing anew ---


@dataclass
class Vault:
    """Cards under an old master key, and the next key beside it."""

    dsn: str
    directory: Path
    cards: dict[OwnedToken, CardData]
    old: str
    new: str = ""

    async def under(self) -> Mapping[str, int]:
        async with TokensView.opened(self.dsn) as tokens:
            return await tokens.count_by_key()

    async def opened(self) -> OpenedCards:
        store = PostgresStore(self.dsn, pool_size=1)
        await store.start()
        try:
            return await PostgresTokenVault(store, MasterKeyRing(self.directory)).open(list(self.cards))
        finally:
            await store.stop()

    def reseal(self, *, batch: int) -> "subprocess.Popen[bytes]":
        """The command in a process of its own, as an operator runs it."""
        command = [sys.executable, "-c", "from gateway.cli import main; main()", "keys", "master", "reseal"]
        environment = {
            **os.environ,
            "MYPAY_POSTGRES_DSN": self.dsn,
            "MYPAY_MASTER_KEYS_DIR": str(self.directory),
        }
        return subprocess.Popen([*command, "--batch", str(batch)], env=environment, stderr=subprocess.PIPE)


@pytest.fixture
async def vault(tokens: PostgresTokens, database: str, tmp_path: Path) -> Vault:
    directory = tmp_path / "keys"
    old = MasterKeys.create(directory)
    sealer = CardSealer(MasterKeys.load(directory))
    cards = {
        OwnedToken(FundingToken(f"card-{n:03}"), USE.customer_id): CardData(f"4111111111{n:06}", "2912")
        for n in range(100)
    }
    await tokens.put(
        [NewToken(*owned, (PARTNER,), sealer.seal_card(owned, card)) for owned, card in cards.items()], now=NOW
    )
    async with tokens.transaction():
        await tokens._connection.execute("DELETE FROM funding_token_partner WHERE token = $1", TOKEN)
        await tokens._connection.execute("DELETE FROM funding_token WHERE token = $1", TOKEN)
    return Vault(database, directory, cards, old, MasterKeys.create(directory))


async def test_whoever_is_killed_while_sealing_anew_goes_on_with_what_is_left(vault: Vault) -> None:
    holder = await asyncpg.connect(vault.dsn)
    try:
        async with holder.transaction():
            await holder.execute("SELECT 1 FROM funding_token WHERE token = 'card-055' FOR UPDATE")
            process = vault.reseal(batch=10)
            # Five batches stand; the sixth waits for the row, and there it is killed.
            while await vault.under() != {vault.old: 50, vault.new: 50}:
                assert process.poll() is None
            while not await holder.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            ):
                assert process.poll() is None
            process.kill()
            process.communicate()
        assert (await vault.opened()).cards == vault.cards
    finally:
        await holder.close()
    again = vault.reseal(batch=10)
    _, told = again.communicate()
    assert again.returncode == 0
    # The server may have finished the killed one's last statement; nothing is done twice.
    assert told.splitlines()[-2] in {b"40 of 40 sealed anew", b"50 of 50 sealed anew"}
    assert await vault.under() == {vault.new: 100}
    set_aside(vault.directory, vault.old)
    assert (await vault.opened()).cards == vault.cards


async def test_what_does_not_open_stays_as_it_is_and_is_named(vault: Vault, tokens: PostgresTokens) -> None:
    await tokens._connection.execute("UPDATE funding_token SET ciphertext = 'x' WHERE token = 'card-003'")
    await tokens._connection.execute("UPDATE funding_token SET key_id = 'gone' WHERE token = 'card-004'")
    sealer = CardSealer(MasterKeys.load(vault.directory))
    steps: list[int] = []
    made = await reseal_all(tokens, sealer, vault.new, batch=30, progress=lambda so_far: steps.append(so_far.done))
    assert (made.done, made.left, steps) == (98, 0, [28, 58, 88, 98])
    assert made.unopened == {Unopened.CHANGED: 1, Unopened.NO_KEY: 1}
    assert made.named == ["card-003", "card-004"]
    uses = key_uses([vault.old, vault.new], await vault.under())
    assert {u.key_id: (u.is_here, u.seals, u.tokens) for u in uses} == {
        vault.old: (True, False, 1),
        vault.new: (True, True, 98),
        "gone": (False, False, 1),
    }


async def test_a_token_without_owner_is_sealed_anew_without_one(tokens: PostgresTokens, tmp_path: Path) -> None:
    keys = MasterKeys({"a": b"a" * 32, "b": b"b" * 32})
    before = MasterKeys({"a": b"a" * 32}).seal(Purpose.FUNDING_TOKEN, b"4111111111111111=2912", "old")
    await tokens._connection.execute(
        "INSERT INTO funding_token (token, key_id, nonce, ciphertext) VALUES ('old', 'a', $1, $2)",
        before.nonce,
        before.ciphertext,
    )
    made = await reseal_all(tokens, CardSealer(keys), "b", progress=lambda _: None)
    assert made.done == 1
    row = await tokens.sealed(FundingToken("old"))
    assert row is not None
    assert (row.customer_id, row.key_id) == (None, "b")
    card = CardSealer(keys).open_unowned_card(row.token, Sealed(row.key_id, row.nonce, row.ciphertext))
    assert card == CardData("4111111111111111", "2912")
