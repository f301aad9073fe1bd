"""What affiliates and partners are told of offers, as events of the outbox."""

from typing import Protocol

from gateway.base.digest_words import word_of
from gateway.marketing.rules.offers import Offer, StoredUse
from gateway.outbox.store import OutboxEvent
from schemas.codec import encode
from schemas.consents import Channel
from schemas.events import ConsentOffered, EventType
from schemas.marketing import (
    OFFER_GRANTED_TYPE,
    OFFER_WITHDRAWN_TYPE,
    USE_COUNTED_TYPE,
    USE_REFUSED_TYPE,
    OfferEnd,
    OfferGranted,
    OfferUse,
    OfferUseCounted,
    OfferUseRefused,
    OfferWithdrawn,
)
from schemas.primitives import Money
from schemas.reasons import Reason
from schemas.topics import events_topic, offers_topic


class CustomerNames(Protocol):
    """The names that affiliates know customers by: two affiliates have none in common."""

    @property
    def key_id(self) -> str:
        """Of the key that names."""

    def customer(self, affiliate_id: str, customer_id: str) -> str:
        """The affiliate's own name of a customer."""


def granted_events(offer: Offer, names: CustomerNames) -> list[OutboxEvent]:
    """For the affiliate; and for the consent's partner and the disclosure log, in the names that they know."""
    body = OfferGranted(
        offer_id=offer.offer_id,
        campaign_id=offer.campaign_id,
        affiliate_id=offer.affiliate_id,
        customer=names.customer(offer.affiliate_id, offer.customer_id),
        key_id=names.key_id,
        channels=tuple(Channel(c) for c in offer.channels),
        worth=Money.trusted(offer.worth_minor, offer.currency),
        uses_max=offer.uses_max,
        granted_at=offer.granted_at,
        expires_at=offer.expires_at,
    )
    return [
        OutboxEvent(
            topic=offers_topic(offer.affiliate_id),
            key=str(offer.offer_id),
            event_id=f"{offer.offer_id}:granted",
            event_type=OFFER_GRANTED_TYPE,
            occurred_at=offer.granted_at,
            body=encode(body),
        ),
        offered_event(offer),
    ]


def offered_event(offer: Offer) -> OutboxEvent:
    """For the consent's partner and the disclosure log."""
    partner_id, consent_id = offer.consent_key
    told = ConsentOffered.of_stored(
        partner_id=partner_id,
        consent_id=consent_id,
        consent_version=offer.consent_version,
        offer_id=offer.offer_id,
        campaign_id=offer.campaign_id,
        affiliate_id=offer.affiliate_id,
        channels=" ".join(offer.channels),
        expires_at=offer.expires_at,
        occurred_at=offer.granted_at,
    )
    return OutboxEvent(
        topic=events_topic(partner_id),
        key=consent_id,
        event_id=f"{offer.offer_id}:offered",
        event_type=EventType.CONSENT_OFFERED,
        occurred_at=offer.granted_at,
        body=encode(told),
    )


def withdrawn_event(offer: Offer, cause: OfferEnd) -> OutboxEvent:
    """For the affiliate of an offer that has ended."""
    if offer.ended_at is None:
        raise AssertionError("what is told has ended")
    body = OfferWithdrawn(
        offer_id=offer.offer_id,
        campaign_id=offer.campaign_id,
        affiliate_id=offer.affiliate_id,
        cause=cause,
        withdrawn_at=offer.ended_at,
    )
    return OutboxEvent(
        topic=offers_topic(offer.affiliate_id),
        key=str(offer.offer_id),
        event_id=f"{offer.offer_id}:withdrawn",
        event_type=OFFER_WITHDRAWN_TYPE,
        occurred_at=offer.ended_at,
        body=encode(body),
    )


def use_event(use: OfferUse, handled: StoredUse, reason: Reason | None) -> OutboxEvent:
    """For the affiliate that told of a use: it was counted, or why not. The same words whenever it is told again."""
    body: OfferUseCounted | OfferUseRefused
    if reason is None:
        body = OfferUseCounted(
            use_id=use.use_id,
            offer_id=use.offer_id,
            affiliate_id=use.affiliate_id,
            amount=use.amount,
            occurred_at=handled.handled_at,
        )
    else:
        body = OfferUseRefused(
            use_id=use.use_id,
            offer_id=use.offer_id,
            affiliate_id=use.affiliate_id,
            reason=reason,
            occurred_at=handled.handled_at,
        )
    return OutboxEvent(
        topic=offers_topic(use.affiliate_id),
        key=str(use.offer_id),
        event_id=f"{use.affiliate_id}:{use.use_id}:{word_of(handled.digest)}",
        event_type=USE_COUNTED_TYPE if reason is None else USE_REFUSED_TYPE,
        occurred_at=handled.handled_at,
        body=encode(body),
    )
