"""The load of a torture run: the mix without its scenes, and which endings are right where everything fails."""

from datetime import UTC, datetime

import pytest

from gateway.directory.funding import token_use
from gateway.proving.books import Ending
from gateway.proving.torture.load import Load, expected_under_faults, make_load
from gateway.proving.traffic.cast import STORY, Role, make_cast, make_partners
from gateway.proving.traffic.mix import KINDS, Wave, plan, roles_for

ORDERS = 1200
SEED = 5


@pytest.fixture(scope="module")
def load() -> Load:
    cast = make_cast(roles_for(ORDERS), partners=make_partners(), now=datetime.now(UTC), seed=SEED)
    return make_load(plan(ORDERS, cast, SEED), cast, SEED)


def test_nothing_is_sent_twice_but_repetitions_and_reused_ids(load: Load) -> None:
    once = [p.order_id for p in load.all if p.kind not in {"repeated", "id_reused"}]
    assert len(once) == len(set(once))
    assert len(load.all) > 0.95 * ORDERS


def test_the_main_part_is_sent_in_one_wave_and_tells_no_story(load: Load) -> None:
    cast = make_cast(roles_for(ORDERS), partners=make_partners(), now=datetime.now(UTC), seed=SEED)
    stories = {c.terms.consent_id for role in STORY for c in cast.of(role)}
    assert {p.wave for p in load.main} == {Wave.MAIN}
    assert not {p.consent_id for p in load.all} & stories


def test_refunds_belong_to_their_originals(load: Load) -> None:
    assert load.refunds
    for place, refunds in load.refunds.items():
        assert {r.refund_of for r in refunds} == {load.main[place].order_id}


def test_every_revocation_has_orders_around_it_and_after_it(load: Load) -> None:
    assert load.revocations
    for revocation in load.revocations:
        assert revocation.customer.role is Role.REVOKED
        consents = {p.consent_id for p in (*revocation.racing, *revocation.after)}
        assert consents == {revocation.customer.terms.consent_id}


def test_every_theft_is_of_another_customers_card_that_the_partner_may_use(load: Load) -> None:
    cast = make_cast(roles_for(ORDERS), partners=make_partners(), now=datetime.now(UTC), seed=SEED)
    owners = {use.token: use for c in cast.of(Role.PLAIN) if (use := token_use(c.terms))}
    assert len(load.thefts) == len(STORY)
    for theft in load.thefts:
        use = token_use(theft.thief.terms)
        assert use is not None
        assert (owners[use.token].partner_id, owners[use.token].customer_id != use.customer_id) == (
            use.partner_id,
            True,
        )
        assert theft.orders
        assert {(p.consent_id, p.kind) for p in theft.orders} == {(theft.thief.terms.consent_id, "no_consent")}
        assert all(p in load.all for p in theft.orders)


@pytest.mark.parametrize("kind", KINDS)
def test_faults_never_make_a_bad_order_good_unless_it_depends_on_another(kind: str) -> None:
    planned = KINDS[kind].ends
    allowed = expected_under_faults(kind, planned)
    assert planned <= allowed
    assert Ending.UNKNOWN not in allowed
    if kind in {
        "stolen_card",
        "card_withdrawn",
        "tampered",
        "revoked",
        "suspended",
        "proof_missing",
        "malformed",
        "over_payment",
        "cancelled_first",
    }:
        assert allowed == planned
