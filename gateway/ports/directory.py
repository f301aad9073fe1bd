"""Reference data: merchants, networks as workers see them, funding tokens."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from gateway.domain.consent import Merchant
from gateway.domain.exchange import CardData
from schemas.primitives import FundingToken, MerchantId, NetworkId


class Directory(Protocol):
    """Merchants and networks' health; partners and keys are read through :class:`KeySource`."""

    async def merchants(self, ids: Sequence[MerchantId]) -> Mapping[MerchantId, Merchant]:
        """Merchants that exist."""

    async def open_networks(self, *, reported_since: datetime) -> frozenset[NetworkId]:
        """Networks that at least one execution worker has reported open since then."""

    async def report_network(self, network_id: NetworkId, *, worker: str, is_open: bool, now: datetime) -> None:
        """Note what one worker sees of one network, and that it lives."""


class TokenVault(Protocol):
    """Opens funding tokens. What it returns is never logged, stored or kept."""

    async def open(self, tokens: Sequence[FundingToken]) -> Mapping[FundingToken, CardData]:
        """Cards behind the tokens that exist."""
