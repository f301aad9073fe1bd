"""What each use may see of a payment, and how its coarse fields are made: tables.

A field leaves only where the use's row has it *and* the consent names it. Identity is never a field: an affiliate
knows the customer by a name of its own.
"""

from bisect import bisect_right
from collections.abc import Collection, Mapping
from datetime import datetime
from functools import cache, lru_cache
from itertools import pairwise
from typing import Final

from gateway.base.calendar import SEOUL
from gateway.network.exchange import city_of
from schemas.consents import SharingField
from schemas.primitives import EXPONENTS
from schemas.sharing import SharingUse

_F = SharingField
_COARSE: Final = frozenset({_F.CATEGORY, _F.AMOUNT_BAND, _F.MONTH})

POLICY: Final[Mapping[SharingUse, frozenset[SharingField]]] = {
    SharingUse.SPENDING_ANALYSIS: _COARSE | {_F.REGION},
    SharingUse.CREDIT_ASSESSMENT: _COARSE,
    # A point is given for a payment, at a shop, to the won.
    SharingUse.LOYALTY: _COARSE | {_F.AMOUNT, _F.PAYEE},
    # A thief is told by when, where and with which card.
    SharingUse.FRAUD_PREVENTION: frozenset(_F),
}
"""Use → the most that it may see."""

BANDS: Final[Mapping[str, tuple[int, ...]]] = {
    "KRW": (0, 10_000, 50_000, 100_000, 300_000, 1_000_000),
    "JPY": (0, 1_000, 5_000, 10_000, 30_000, 100_000),
}
"""Currency → where its bands begin, in whole units."""

OTHER_BANDS: Final = (0, 10, 50, 100, 300, 1_000)
"""Of every other currency."""


def allowed_fields(use: SharingUse, consented: Collection[SharingField]) -> frozenset[SharingField]:
    """The fields that may leave for a use: its own, as far as the customer agreed to them."""
    return POLICY[use] & frozenset(consented)


def known_uses(named: Collection[str]) -> tuple[SharingUse, ...]:
    """The uses among the purposes that a consent names; a purpose that no table knows permits nothing."""
    return tuple(use for use in SharingUse if use.value in named)


def amount_band(amount_minor: int, currency: str) -> str:
    """The band of an amount: ``KRW 10000-50000``."""
    begins = BANDS.get(currency, OTHER_BANDS)
    return _bands(currency)[bisect_right(begins, amount_minor // 10 ** EXPONENTS[currency]) - 1]


@cache
def _bands(currency: str) -> tuple[str, ...]:
    begins = BANDS.get(currency, OTHER_BANDS)
    return (*(f"{currency} {low}-{high}" for low, high in pairwise(begins)), f"{currency} {begins[-1]}+")


def month_of(moment: datetime) -> str:
    """The month of a moment in Asia/Seoul: ``2026-11``."""
    there = moment.astimezone(SEOUL)
    return _month(there.year, there.month)


@lru_cache(maxsize=64)
def _month(year: int, month: int) -> str:
    return f"{year:04}-{month:02}"


@lru_cache(maxsize=4096)
def region_of(name_location: str) -> str | None:
    """The city in a merchant's DE43; None where it names none."""
    return city_of(name_location)
