"""How much the trust policy lets pass without a proof, whatever a consent's terms say."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ExemptionCap:
    """The most that any consent's exemption may allow in one currency; amounts in minor units."""

    max_amount_minor: int
    max_count: int
    max_sum_minor: int


ExemptionCaps = Mapping[str, ExemptionCap] | None
"""Currency → cap: in a currency without one nothing is exempt. None: no proof is asked for, so nothing is capped."""
