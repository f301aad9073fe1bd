"""What was handed to recipients and affiliates, as plain rows: the gateway's, the disclosure log's, and the receivers'.

Amounts are minor units; times are seconds since 1970 UTC.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

ConsentKey = tuple[str, str]
"""(partner_id, consent_id)"""


class ShareRow(NamedTuple):
    """A row of ``share`` with its holder's reference."""

    partner_id: str
    payment_id: str
    affiliate_id: str
    consent_id: str
    share_id: str
    reference: str


class HolderRow(NamedTuple):
    """A row of ``share_holder``. ``erased``: how many payments the affiliate confirmed to have erased; or None."""

    partner_id: str
    consent_id: str
    affiliate_id: str
    reference: str
    noticed: bool
    erased: int | None


class OfferRow(NamedTuple):
    """A row of ``offer``."""

    offer_id: str
    campaign_id: str
    affiliate_id: str
    partner_id: str
    consent_id: str
    state: str
    worth_minor: int
    uses_max: int
    uses: int
    used_minor: int


class UseRow(NamedTuple):
    """A row of ``offer_use``. ``reason_code``: why it was refused; None where it was counted; ``at_s``: when."""

    affiliate_id: str
    use_id: str
    offer_id: str
    amount_minor: int
    reason_code: str | None
    at_s: float


class CampaignRow(NamedTuple):
    """A row of ``campaign``: its budget, and what is used of it."""

    campaign_id: str
    budget_minor: int
    budget_offers: int
    offers: int
    held_minor: int
    used_minor: int


class LogRow(NamedTuple):
    """Content of an entry of the disclosure log.

    Attributes:
        kind: the entry's; of an answer through the API ``pull``.
        is_void: an attempt at an export that came to nothing.
    """

    kind: str
    partner_id: str | None
    consent_id: str | None
    recipient: str
    reference: str
    at_s: float
    is_void: bool


class Agreement(NamedTuple):
    """What a consent permits of sharing: to whom, and which fields."""

    affiliates: frozenset[str]
    uses: frozenset[str]
    fields: frozenset[str]


class ReceivedShare(NamedTuple):
    """A share as its affiliate wrote it down. ``fields``: use → fields that came; ``tokens``: names of cards."""

    share_id: str
    consent_ref: str
    customer: str
    fields: Mapping[str, frozenset[str]]
    tokens: frozenset[str] = frozenset()


@dataclass(slots=True)
class AffiliatesBook:
    """An affiliate's own book.

    Attributes:
        shares: what it holds; received: consent_ref → payments that ever came, erased or not.
        notices: references that it was told to erase; erased: reference → payments that it erased.
        offers: ids; answers: use id → why refused, None where counted.
        problems: what it found wrong with what it was sent.
    """

    shares: list[ReceivedShare] = field(default_factory=list)
    received: Mapping[str, int] = field(default_factory=dict)
    notices: frozenset[str] = frozenset()
    erased: Mapping[str, int] = field(default_factory=dict)
    offers: frozenset[str] = frozenset()
    answers: Mapping[str, str | None] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


@dataclass(slots=True)
class Handed:
    """Everything about what was handed over, from three sides: the gateway's, its log's and the receivers'.

    Attributes:
        exports: export id → records, of those that the gateway made whole.
        approved: affiliate → the uses that are approved for it.
        agreements: of the consents that permit sharing at all.
        ends: consent and purpose → when it was revoked or ran out, the last time.
        books: the affiliates'; opened: export id → records, as the recipient opened them; refused: what did not hold.
        half_open: attempts at exports of which the recipient was told neither a receipt nor that they are void.
    """

    shares: list[ShareRow] = field(default_factory=list)
    holders: list[HolderRow] = field(default_factory=list)
    offers: list[OfferRow] = field(default_factory=list)
    uses: list[UseRow] = field(default_factory=list)
    campaigns: list[CampaignRow] = field(default_factory=list)
    exports: dict[str, int] = field(default_factory=dict)
    log: list[LogRow] = field(default_factory=list)
    approved: dict[str, frozenset[str]] = field(default_factory=dict)
    agreements: dict[ConsentKey, Agreement] = field(default_factory=dict)
    ends: dict[tuple[str, str, str], float] = field(default_factory=dict)
    books: dict[str, AffiliatesBook] = field(default_factory=dict)
    opened: dict[str, int] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    half_open: tuple[str, ...] = ()


PURPOSE_OF: Final[Mapping[str, str]] = {
    "payment": "payment",
    "export": "portability",
    "pull": "portability",
    "share": "sharing",
    "offer": "marketing",
}
"""Kind of an entry of the log → the purpose that permits it."""


class UsedRow(NamedTuple):
    """A use of a consent's purpose, at the moment that was read under the consent's lock."""

    purpose: str
    partner_id: str
    consent_id: str
    what: str
    at_s: float


def used(handed: Handed) -> list[UsedRow]:
    """Every use that was permitted: what the log has, and uses of offers that were counted."""
    found = [
        UsedRow(PURPOSE_OF[row.kind], row.partner_id, row.consent_id, f"{row.kind} {row.reference}", row.at_s)
        for row in handed.log
        if row.kind in PURPOSE_OF and not row.is_void and row.partner_id is not None and row.consent_id is not None
    ]
    offers = {offer.offer_id: offer for offer in handed.offers}
    return found + [
        UsedRow("marketing", offer.partner_id, offer.consent_id, f"use {use.use_id} of offer {use.offer_id}", use.at_s)
        for use in handed.uses
        if use.reason_code is None and (offer := offers.get(use.offer_id)) is not None
    ]
