"""The firewall between what is held of payments and what marketing may look at, in types.

What a campaign's segment and the aggregates take is :class:`MarketingActivity`, and nothing else. There is one way to
one: :func:`activity_of`, which asks for a :class:`MarketingPermit`. There is one way to that: :func:`permit_of`, which
asks the consent. Payments as the gateway holds them for itself are :class:`PaidRow`, of which no rule of marketing
takes one.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct

from gateway.base.keys import ConsentKey
from gateway.consents.rules.consent import Consent, refuse_use
from gateway.consents.rules.purposes import end_of
from gateway.network.exchange import city_of
from schemas.consents import MarketingPurpose, Purpose
from schemas.reasons import Reason

_SEAL: Final = object()


class PaidRow(Struct, frozen=True, gc=False):
    """A settled purchase as the gateway holds it for itself."""

    consent_key: ConsentKey
    payment_id: UUID
    amount_minor: int
    currency: str
    paid_at: datetime
    category: str | None
    name_location: str | None


class MarketingPermit:
    """That a consent permits marketing at a moment: made by :func:`permit_of` alone.

    Attributes:
        until: first moment at which it permits it no more.
    """

    __slots__ = ("consent_version", "customer_id", "key", "purpose", "until")

    def __init__(self, seal: object, consent: Consent, purpose: MarketingPurpose) -> None:
        if seal is not _SEAL:
            raise TypeError("a permit is given by permit_of")
        self.key: Final[ConsentKey] = (consent.terms.partner_id, consent.terms.consent_id)
        self.customer_id: Final[str] = consent.terms.customer_id
        self.consent_version: Final = consent.version
        self.purpose: Final = purpose
        self.until: Final = end_of(consent.terms, Purpose.MARKETING)


class Spent(Struct, frozen=True, gc=False):
    """A payment as marketing sees it: no payee, no token; the time to know its week."""

    payment_id: UUID
    amount_minor: int
    currency: str
    paid_at: datetime
    category: str | None
    region: str | None


class MarketingActivity:
    """Settled payments under one consent that permits marketing: made by :func:`activity_of` alone."""

    __slots__ = ("permit", "spent")

    def __init__(self, seal: object, permit: MarketingPermit, spent: Sequence[Spent]) -> None:
        if seal is not _SEAL:
            raise TypeError("activity is made by activity_of")
        self.permit: Final = permit
        self.spent: Final = tuple(spent)


def permit_of(consent: Consent | None, now: datetime) -> MarketingPermit | Reason | None:
    """The consent's permit, why it gives none, or None where there is no consent.

    For an offer the consent is one that was read under its lock, and ``now`` is read after that.
    """
    if consent is None:
        return None
    refused = refuse_use(consent, Purpose.MARKETING, now)
    if refused is not None:
        return refused
    purpose = consent.terms.marketing
    if purpose is None:
        raise AssertionError("a purpose that is permitted is among the terms")
    return MarketingPermit(_SEAL, consent, purpose)


def activity_of(permit: MarketingPermit, paid: Sequence[PaidRow]) -> MarketingActivity:
    """What was paid under the permit's own consent; payments under any other are left out."""
    return MarketingActivity(
        _SEAL,
        permit,
        [
            Spent(p.payment_id, p.amount_minor, p.currency, p.paid_at, p.category, city_of(p.name_location or ""))
            for p in paid
            if p.consent_key == permit.key
        ],
    )


def activities_of(permits: Sequence[MarketingPermit], paid: Sequence[PaidRow]) -> list[MarketingActivity]:
    """What was paid under each of these permits, in their order."""
    by_consent: dict[ConsentKey, list[PaidRow]] = {}
    for row in paid:
        by_consent.setdefault(row.consent_key, []).append(row)
    return [activity_of(p, by_consent.get(p.key, ())) for p in permits]
