"""The token vault: sealed cards in PostgreSQL, opened a batch at a time, never kept."""

from collections.abc import Collection, Sequence
from typing import Protocol

from gateway.database.pool import ConnectionPool
from gateway.database.queries import load
from gateway.directory.funding import OwnedToken
from gateway.directory.store import OpenedCards, Unopened
from gateway.network.exchange import CardData

_SQL = load(__name__, "directory")


class CardOpener(Protocol):
    """Opens sealed rows with the master keys of this process."""

    def open(self, owned: OwnedToken, key_id: str, nonce: bytes, ciphertext: bytes) -> CardData | Unopened:
        """The card, or why it does not open; never raises for what is wrong with one row."""

    async def reload(self, key_ids: Collection[str]) -> bool:
        """Read the keys again, for rows under keys that are not known; True if they were read: look once more."""


class PostgresTokenVault:
    """Implements :class:`gateway.directory.store.TokenVault`; one query a batch."""

    def __init__(self, store: ConnectionPool, opener: CardOpener) -> None:
        self._store = store
        self._opener = opener

    async def open(self, tokens: Sequence[OwnedToken]) -> OpenedCards:
        if not tokens:
            return OpenedCards()
        async with self._store.connection() as connection:
            rows = await connection.fetch(_SQL.funding_tokens, *map(list, zip(*tokens, strict=True)))
        sealed = {OwnedToken(r["token"], r["customer_id"]): (r["key_id"], r["nonce"], r["ciphertext"]) for r in rows}
        found = {owned: self._opener.open(owned, *row) for owned, row in sealed.items()}
        # Sealed anew under a key that is younger than this process: it is in the directory by now.
        unknown = [owned for owned, card in found.items() if card is Unopened.NO_KEY]
        if unknown and await self._opener.reload({sealed[owned][0] for owned in unknown}):
            found.update({owned: self._opener.open(owned, *sealed[owned]) for owned in unknown})
        cards = {owned: card for owned, card in found.items() if isinstance(card, CardData)}
        unopened = {t: Unopened.MISSING for t in tokens if t not in found}
        unopened |= {owned: why for owned, why in found.items() if isinstance(why, Unopened)}
        return OpenedCards(cards, unopened)
