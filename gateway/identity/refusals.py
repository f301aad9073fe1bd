"""Refused records of partners."""

from dataclasses import dataclass

from schemas.primitives import PartnerId
from schemas.reasons import Reason


@dataclass(frozen=True, slots=True)
class Refusal:
    """An order that did not become a payment; ``reference`` names the record, so that redelivery records it once."""

    partner_id: PartnerId
    order_id: str
    reference: str
    reason: Reason
