"""TokenVault: what opens, what does not and why, and that one takes no other with it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from gateway.app.registries import open_registries
from gateway.directory.cards import CardSealer, MasterKeyRing
from gateway.directory.funding import OwnedToken
from gateway.directory.store import TokenVault, Unopened
from gateway.directory.vault import PostgresTokenVault
from gateway.network.exchange import CardData
from gateway.proving.memory import MemoryVault
from gateway.sealing.sealing import MasterKeys
from schemas.primitives import CustomerId, FundingToken
from tests.contract.conftest import PostgresBackend, postgres_backend
from tests.support.builders import NOW
from tests.support.tokens import put_token


def owned(number: int, customer: str = "customer-1") -> OwnedToken:
    return OwnedToken(FundingToken(f"card-{number}"), CustomerId(customer))


def card(number: int) -> CardData:
    return CardData(f"41111111111111{number:02d}", "2912")


class Vault(Protocol):
    """One implementation with cards 1 to 4 of ``customer-1``."""

    vault: TokenVault

    async def change(self, number: int) -> None:
        """Change what is stored behind a card."""

    async def forget_key(self, number: int) -> None:
        """Seal a card under a key that is nowhere."""

    async def seal_under_new_key(self, number: int) -> None:
        """Seal a card under a key that was made after the process began."""


class MemoryCards:
    def __init__(self) -> None:
        self.vault = MemoryVault({owned(n): card(n) for n in range(1, 5)})

    async def change(self, number: int) -> None:
        self.vault.damaged[owned(number).token] = Unopened.CHANGED

    async def forget_key(self, number: int) -> None:
        self.vault.damaged[owned(number).token] = Unopened.NO_KEY

    async def seal_under_new_key(self, number: int) -> None:
        pass


class PostgresCards:
    def __init__(self, backend: PostgresBackend, directory: Path) -> None:
        self.backend = backend
        self.directory = directory
        self.vault = PostgresTokenVault(backend.store, MasterKeyRing(directory))

    async def fill(self) -> None:
        sealer = CardSealer(MasterKeys.load(self.directory))
        for n in range(1, 5):
            await put_token(self.backend.dsn, *owned(n), "partner-1", sealed=sealer.seal_card(owned(n), card(n)))

    async def change(self, number: int) -> None:
        await self.backend.connection.execute(
            "UPDATE funding_token SET ciphertext = set_byte(ciphertext, 0, get_byte(ciphertext, 0) # 1) "
            "WHERE token = $1",
            owned(number).token,
        )

    async def forget_key(self, number: int) -> None:
        await self.backend.connection.execute(
            "UPDATE funding_token SET key_id = 'gone' WHERE token = $1", owned(number).token
        )

    async def seal_under_new_key(self, number: int) -> None:
        MasterKeys.create(self.directory)
        sealed = CardSealer(MasterKeys.load(self.directory)).seal_card(owned(number), card(number))
        async with open_registries(self.backend.dsn) as registries:
            tokens = registries.tokens
            was = await tokens.sealed(owned(number).token)
            assert was is not None
            assert await tokens.reseal([(was, sealed)], now=NOW) == 1
            # Whoever read the row before it was sealed anew changes nothing.
            assert await tokens.reseal([(was, replace(sealed, ciphertext=b"old"))], now=NOW) == 0


@pytest.fixture
async def cards(dsn: str | None, tmp_path: Path) -> AsyncIterator[Vault]:
    if dsn is None:
        yield MemoryCards()
        return
    directory = tmp_path / "keys"
    MasterKeys.create(directory)
    async with postgres_backend(dsn) as backend:
        made = PostgresCards(backend, directory)
        await made.fill()
        yield made


async def test_cards_open_for_their_owners_alone(cards: Vault) -> None:
    other = owned(2, "customer-2")
    opened = await cards.vault.open([owned(1), other, owned(9), owned(3)])
    assert opened.cards == {owned(1): card(1), owned(3): card(3)}
    assert opened.unopened == {other: Unopened.MISSING, owned(9): Unopened.MISSING}
    assert await cards.vault.open([]) == type(opened)()


async def test_what_does_not_open_says_why_and_hinders_no_other(cards: Vault) -> None:
    await cards.change(2)
    await cards.forget_key(3)
    opened = await cards.vault.open([owned(n) for n in range(1, 5)])
    assert opened.cards == {owned(1): card(1), owned(4): card(4)}
    assert opened.unopened == {owned(2): Unopened.CHANGED, owned(3): Unopened.NO_KEY}


async def test_a_card_sealed_anew_under_a_younger_key_opens_without_a_restart(cards: Vault) -> None:
    assert (await cards.vault.open([owned(1)])).cards
    await cards.seal_under_new_key(1)
    assert await cards.vault.open([owned(1), owned(2)]) == type(await cards.vault.open([]))(
        {owned(1): card(1), owned(2): card(2)}
    )


@pytest.mark.integration
async def test_a_row_whose_owner_is_changed_in_the_database_does_not_open(contract_dsn: str, tmp_path: Path) -> None:
    """Whoever can write to the table, and has no key, gives nobody another's card."""
    MasterKeys.create(tmp_path / "keys")
    async with postgres_backend(contract_dsn) as backend:
        made = PostgresCards(backend, tmp_path / "keys")
        await made.fill()
        await backend.connection.execute("UPDATE funding_token SET customer_id = 'thief' WHERE token = 'card-1'")
        await backend.connection.execute(
            "UPDATE funding_token AS t SET key_id = o.key_id, nonce = o.nonce, ciphertext = o.ciphertext "
            "FROM funding_token AS o WHERE t.token = 'card-2' AND o.token = 'card-3'"
        )
        stolen = [owned(1, "thief"), owned(2)]
        opened = await made.vault.open(stolen)
    assert opened.cards == {}
    assert opened.unopened == dict.fromkeys(stolen, Unopened.CHANGED)
