"""Bugs in offers, their uses, and aggregates."""

from contextlib import AbstractContextManager
from typing import Final

from gateway.marketing import publishing, service, using
from gateway.marketing.rules import offers
from gateway.proving.memory import marketing as memory
from gateway.proving.simulation.bugs.planting import Mutant, edited, replaced, together


def _cap_ignored() -> AbstractContextManager[None]:
    counted = "sum(o.granted_at > since for o in theirs) < campaign.frequency.offers"
    return edited(offers, "_may_have", (counted, "since is not None"))


def _exclusivity_ignored() -> AbstractContextManager[None]:
    return edited(offers, "_may_have", ("campaign.exclusive_group is not None and", "False and"))


def _not_withdrawn() -> AbstractContextManager[None]:
    edit = ("Purpose.MARKETING in consent.ended or ", "")
    return together(edited(service, "end_of_offer", edit), edited(memory, "end_of_offer", edit))


def _anothers() -> AbstractContextManager[None]:
    return edited(using, "refuse_offer_use", (" or offer.affiliate_id != use.affiliate_id", ""))


def _used_after_end() -> AbstractContextManager[None]:
    return edited(
        using,
        "refuse_offer_use",
        ("offer.state is OfferState.REVOKED or end is OfferEnd.REVOKED or consent is None", "consent is None"),
        ("refuse_use(consent, Purpose.MARKETING, now) or ", ""),
    )


def _budget_kept() -> AbstractContextManager[None]:
    # Past the budget the database's own wall would stop it before the books are looked at.
    return together(
        edited(using, "counted", ("row.held_minor - offer.held_minor + after.held_minor", "row.held_minor")),
        edited(
            memory.MemoryMarketingStore,
            "write_campaigns",
            (" or row.held_minor + row.used_minor > budget.amount.minor", ""),
        ),
    )


def _given_back_twice() -> AbstractContextManager[None]:
    return edited(service, "ended", ("row.offers - (offer.uses == 0)", "row.offers - 1"))


def _tells_of_one() -> AbstractContextManager[None]:
    return together(
        replaced(publishing, "suppressed", lambda *_: frozenset()),
        replaced(publishing, "differs_too_little", lambda *_: False),
        replaced(publishing, "gives_away", lambda *_: False),
    )


OFFERING: Final = tuple(
    Mutant(name, breaks, plant, of_data=True)
    for name, breaks, plant in (
        ("offer-cap-ignored", "customers get offers beyond a campaign's frequency", _cap_ignored),
        ("offer-exclusivity-ignored", "customers get offers that exclude each other", _exclusivity_ignored),
        ("offer-not-withdrawn", "an offer stands although its purpose alone was revoked", _not_withdrawn),
        ("offer-of-another-used", "an affiliate uses another's offer", _anothers),
        ("offer-used-after-end", "an offer is used, whatever has become of its consent", _used_after_end),
        ("offer-budget-kept", "a use gives nothing back to its campaign's budget", _budget_kept),
        ("offer-given-back-twice", "a used offer that ends counts no more against its campaign", _given_back_twice),
        ("aggregate-tells-of-one", "aggregates tell of single customers", _tells_of_one),
    )
)
