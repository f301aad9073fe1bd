"""Which card network takes a payment."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.directory.merchants import Merchant
from schemas.primitives import NetworkId
from schemas.reasons import Reason, ReasonCode

_BASIS_POINTS: Final = 10_000

_NO_NETWORK: Final = Reason(
    code=ReasonCode.AGNT, text="no card network takes this merchant, category and currency together"
)


@dataclass(frozen=True, slots=True)
class NetworkProfile:
    """What routing knows of a network.

    Attributes:
        currencies: ISO 4217 codes that it takes.
        categories: merchant categories that it takes; None: all.
        cost_fixed_minor: cost of each payment, in minor units of the payment's currency.
        cost_basis_points: cost as hundredths of a percent of the amount, on top.
        open: False while it cannot take payments (no signed-on link, circuit breaker).
    """

    network_id: NetworkId
    currencies: frozenset[str]
    categories: frozenset[str] | None
    cost_fixed_minor: int
    cost_basis_points: int
    open: bool

    def cost(self, amount_minor: int) -> int:
        """Cost of a payment in ten-thousandths of a minor unit: exact, for comparison."""
        return self.cost_fixed_minor * _BASIS_POINTS + amount_minor * self.cost_basis_points


def route(
    order_amount_minor: int, currency: str, merchant: Merchant, networks: Sequence[NetworkProfile]
) -> NetworkId | Reason:
    """Choose the network for a payment.

    Eligible is a network that the merchant has a contract with and that takes the currency and the category. Of these
    the open ones come first, then the cheapest for this amount, then the lowest id, so that the choice never depends
    on the order of configuration. When all eligible ones are closed the cheapest is chosen all the same: the payment
    waits in that network's dispatch topic, and expires there if the network stays away.

    Returns:
        the network; or AGNT when none is eligible.
    """
    mcc = merchant.acceptor.mcc
    eligible = [
        network
        for network in networks
        if network.network_id in merchant.networks
        and currency in network.currencies
        and (network.categories is None or mcc in network.categories)
    ]
    if not eligible:
        return _NO_NETWORK
    best = min(eligible, key=lambda network: (not network.open, network.cost(order_amount_minor), network.network_id))
    return best.network_id
