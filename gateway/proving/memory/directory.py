"""Reference data in memory: merchants and networks' health, and funding tokens."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from gateway.directory.funding import OwnedToken, TokenUse
from gateway.directory.merchants import Merchant
from gateway.directory.store import OpenedCards, Unopened
from gateway.network.exchange import CardData
from gateway.proving.memory.boundary import Boundary, no_boundary
from gateway.proving.memory.database import Transaction
from gateway.proving.memory.tables import NetworkReport
from schemas.primitives import FundingToken, MerchantId, NetworkId


class MemoryDirectory:
    """Implements :class:`gateway.directory.store.Directory` in one transaction."""

    def __init__(self, transaction: Transaction, boundary: Boundary) -> None:
        self._tx = transaction
        self._db = transaction.database
        self._boundary = boundary

    async def merchants(self, ids: Sequence[MerchantId]) -> Mapping[MerchantId, Merchant]:
        await self._boundary("directory.merchants")
        return {i: row for i in ids if (row := self._tx.get(self._db.merchants, i)) is not None}

    async def usable_tokens(self, uses: Sequence[TokenUse]) -> frozenset[TokenUse]:
        await self._boundary("directory.usable_tokens")
        rows = {use: self._tx.get(self._db.tokens, use.token) for use in uses}
        return frozenset(
            use
            for use, row in rows.items()
            if row is not None and row.customer_id == use.customer_id and use.partner_id in row.partners
        )

    async def open_networks(self, *, reported_since: datetime) -> frozenset[NetworkId]:
        await self._boundary("directory.open_networks")
        return frozenset(
            network_id
            for (network_id, _), report in self._tx.items(self._db.network_status)
            if report.is_open
            and report.reported_at >= reported_since
            and self._tx.get(self._db.network_pauses, network_id) is None
        )

    async def is_paused(self, network_id: NetworkId) -> bool:
        await self._boundary("directory.is_paused")
        return self._tx.get(self._db.network_pauses, network_id) is not None

    async def report_network(self, network_id: NetworkId, *, worker: str, is_open: bool, now: datetime) -> bool:
        await self._boundary("directory.report_network")
        key, report = (network_id, worker), NetworkReport(is_open, now)
        if not await self._tx.insert(self._db.network_status, key, report):
            await self._tx.lock(self._db.network_status, [key])
            self._tx.update(self._db.network_status, key, report)
        return self._tx.get(self._db.network_pauses, network_id) is not None


class MemoryVault:
    """Implements :class:`gateway.directory.store.TokenVault` over a table.

    Attributes:
        cards: by token and owner; may be changed at any time.
        damaged: tokens that do not open, and why; may be changed at any time.
    """

    def __init__(self, cards: Mapping[OwnedToken, CardData], boundary: Boundary = no_boundary) -> None:
        self.cards = dict(cards)
        self.damaged: dict[FundingToken, Unopened] = {}
        self._boundary = boundary

    async def open(self, tokens: Sequence[OwnedToken]) -> OpenedCards:
        await self._boundary("vault.open")
        unopened = {t: self.damaged.get(t.token, Unopened.MISSING) for t in tokens if not self._opens(t)}
        return OpenedCards({t: self.cards[t] for t in tokens if t not in unopened}, unopened)

    def _opens(self, owned: OwnedToken) -> bool:
        return owned in self.cards and owned.token not in self.damaged
