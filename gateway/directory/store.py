"""Reference data: merchants, networks as workers see them, funding tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum, unique
from typing import Protocol

from gateway.directory.funding import OwnedToken, TokenUse
from gateway.directory.merchants import Merchant
from gateway.network.exchange import CardData
from schemas.primitives import MerchantId, NetworkId


class Directory(Protocol):
    """Merchants and networks' health; partners and keys are read through :class:`KeySource`."""

    async def merchants(self, ids: Sequence[MerchantId]) -> Mapping[MerchantId, Merchant]:
        """Merchants that exist."""

    async def usable_tokens(self, uses: Sequence[TokenUse]) -> frozenset[TokenUse]:
        """Of these uses, those in which the token is the customer's and the customer lets the partner use it now.

        What is missing, another's, or withdrawn is left out, and costs the same work. Inside a transaction this is as
        of now, not as of the transaction's beginning: asked under a consent's lock it is the instant of truth.
        """

    async def open_networks(self, *, reported_since: datetime) -> frozenset[NetworkId]:
        """Networks that at least one execution worker has reported open since then, and that nobody has paused."""

    async def is_paused(self, network_id: NetworkId) -> bool:
        """Whether operators have paused a network; inside a transaction as of now, as :meth:`usable_tokens`."""

    async def report_network(self, network_id: NetworkId, *, worker: str, is_open: bool, now: datetime) -> bool:
        """Note what one worker sees of one network, and that it lives; return whether operators have paused it."""


class DirectoryUnit(Protocol):
    """Reference data."""

    @property
    def directory(self) -> Directory:
        """Merchants, tokens, networks' health."""


@unique
class Unopened(StrEnum):
    """Why a funding token did not open."""

    MISSING = "missing"  # there is no such token of this customer
    NO_KEY = "no_key"  # the master key that sealed it is not here
    CHANGED = "changed"  # what is stored was changed, moved, or belongs to another token or customer


@dataclass(frozen=True, slots=True)
class OpenedCards:
    """What became of the tokens that were to be opened: each is in one of the two."""

    cards: Mapping[OwnedToken, CardData] = field(default_factory=dict)
    unopened: Mapping[OwnedToken, Unopened] = field(default_factory=dict)


class TokenVault(Protocol):
    """Opens funding tokens. What it returns is never logged, stored or kept."""

    async def open(self, tokens: Sequence[OwnedToken]) -> OpenedCards:
        """Open tokens as their owners'. One that does not open says why, and hinders no other.

        Raises:
            StoreUnavailableError: none was opened; try again.
        """
