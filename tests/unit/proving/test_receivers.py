"""Customers of a run with receivers permit these to be given their data, and those of other runs permit nobody."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.consents.rules.consent import Consent, refuse_use
from gateway.proving.traffic.cast import Cast, Role, make_cast, make_partners
from gateway.proving.traffic.receivers import (
    ALL,
    KINDS_OF_AGREEMENT,
    RECIPIENT,
    SCARCE,
    SCARCE_OFFERS,
    Agreed,
    campaigns,
    make_receivers,
)
from schemas.consents import ConsentStatus, ConsentTerms, Purpose

NOW = datetime(2026, 11, 23, 3, tzinfo=UTC)
PARTNERS = make_partners()
RECEIVERS = make_receivers()
DATA = (Purpose.PORTABILITY, Purpose.SHARING, Purpose.MARKETING)


@pytest.fixture(scope="module")
def cast() -> Cast:
    roles = {Role.PLAIN: 40, Role.FOOD_ONLY: 4, Role.LEAVER: 1}
    return make_cast(roles, partners=PARTNERS, now=NOW, seed=5, receivers=RECEIVERS)


def agreed(terms: ConsentTerms) -> Agreed:
    return Agreed(
        terms.portability is not None and terms.portability.recipients == (RECIPIENT,),
        terms.sharing.affiliates if terms.sharing else (),
        terms.marketing.affiliates if terms.marketing else (),
    )


def test_each_partner_has_customers_of_every_kind_of_agreement(cast: Cast) -> None:
    plain = [c.terms for c in cast.of(Role.PLAIN)]
    for partner in PARTNERS:
        assert {agreed(t) for t in plain if t.partner_id == partner.partner_id} == set(KINDS_OF_AGREEMENT)
    assert all(agreed(c.terms) == Agreed(portability=False, sharing=(), marketing=()) for c in cast.of(Role.FOOD_ONLY))


def test_who_leaves_has_permitted_everything_and_it_holds_for_as_long_as_a_run_may_take(cast: Cast) -> None:
    [leaver] = cast.of(Role.LEAVER)
    consent = Consent(leaver.terms, 1, ConsentStatus.AUTH)
    assert agreed(leaver.terms) == ALL
    for purpose in DATA:
        assert refuse_use(consent, purpose, NOW) is None
        # A week on, when the week's aggregates are told.
        assert refuse_use(consent, purpose, NOW + timedelta(days=7)) is None


def test_terms_with_more_purposes_are_terms_as_a_partner_could_send_them(cast: Cast) -> None:
    for customer in cast.customers:
        terms = customer.terms
        assert ConsentTerms.model_validate_json(terms.model_dump_json(exclude_none=True)) == terms


def test_without_receivers_customers_only_pay() -> None:
    alone = make_cast({Role.PLAIN: 8, Role.LEAVER: 1}, partners=PARTNERS, now=NOW, seed=5)
    assert {c.terms.purposes for c in alone.customers} == {(Purpose.PAYMENT,)}
    assert alone.receivers is None


def test_one_campaign_is_too_small_for_all_who_could_have_an_offer(cast: Cast) -> None:
    by_name = {c.campaign_id: c for c in campaigns(NOW)}
    willing = sum(c.terms.marketing is not None for c in cast.customers)
    assert by_name[SCARCE].budget.offers == SCARCE_OFFERS < willing
    assert {a.affiliate_id for a in RECEIVERS.affiliates} == set(by_name[SCARCE].affiliates)
