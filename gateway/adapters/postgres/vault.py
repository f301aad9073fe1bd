"""The token vault: sealed cards in PostgreSQL, opened a batch at a time, never kept."""

from collections.abc import Callable, Mapping, Sequence

from gateway.adapters.postgres.queries import load
from gateway.adapters.postgres.store import PostgresStore
from gateway.domain.exchange import CardData
from schemas.primitives import FundingToken

_SQL = load("directory")


OpenCard = Callable[[FundingToken, str, bytes, bytes], CardData]
"""Opens a sealed row: token, key id, nonce, ciphertext → the card."""


class PostgresTokenVault:
    """Implements :class:`gateway.ports.TokenVault`; one query a batch."""

    def __init__(self, store: PostgresStore, open_card: OpenCard) -> None:
        self._store = store
        self._open_card = open_card

    async def open(self, tokens: Sequence[FundingToken]) -> Mapping[FundingToken, CardData]:
        if not tokens:
            return {}
        async with self._store.connection() as connection:
            rows = await connection.fetch(_SQL.funding_tokens, tokens)
        return {r["token"]: self._open_card(r["token"], r["key_id"], r["nonce"], r["ciphertext"]) for r in rows}
