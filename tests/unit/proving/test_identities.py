"""The mix's proofs are what their kinds say, judged as the gateway does by the trust table that a run writes."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from gateway.base.process import SilentObserver
from gateway.consents.rules.exemption import exemption_allows
from gateway.identity.jose.assertion import JwsAssertionVerifier
from gateway.identity.jose.issuers import CachedTrustTable
from gateway.identity.rules import Accepted, judge_payment_assertion
from gateway.proving.traffic.cast import EXEMPT_COUNT, STORY, Cast, Role, make_cast, make_partners
from gateway.proving.traffic.identities import GROUPS, PROOF_FREE, needs_proof, subject_of
from gateway.proving.traffic.mix import PAID, Planned, Wave, plan, roles_for
from gateway.proving.traffic.orders import OrderWriter, Written
from schemas.codec import decode
from schemas.orders import PaymentOrder
from schemas.reasons import Reason, ReasonCode

NOW = datetime(2026, 11, 23, 3, tzinfo=UTC)
FLAWS = {
    "proof_missing": ReasonCode.DS0A,
    "proof_other_amount": ReasonCode.DS17,
    "proof_expired": ReasonCode.DS24,
    "proof_weak": ReasonCode.DS19,
    "proof_other_person": ReasonCode.DS0H,
}
GOOD = (*PAID, "declined", "late", "revoked", "story_paid", "proof_replayed", "over_day_count")


@pytest.fixture(scope="module")
def cast() -> Cast:
    return make_cast(roles_for(3000), partners=make_partners(), now=NOW, seed=5)


@pytest.fixture(scope="module")
def day(cast: Cast) -> list[Written]:
    planned = plan(3000, cast, 5)
    writer = OrderWriter(cast, planned)
    return [writer.write(p, NOW) for p in planned]


@pytest.fixture
async def trust(cast: Cast, tmp_path: Path) -> AsyncIterator[CachedTrustTable]:
    cast.identities.write(tmp_path)
    table = CachedTrustTable(tmp_path, SilentObserver())
    await table.load()
    yield table
    await table.stop()


def verdict(written: Written, cast: Cast, trust: CachedTrustTable, *, exempt: bool = False) -> ReasonCode | None:
    order = decode(PaymentOrder, written.record.value)
    customer = next(c for c in cast.customers if c.terms.consent_id == order.consent_id).terms.customer_id
    links = {(i.issuer, i.subject): i.customer_id for i in cast.identities.links([customer], NOW)}
    proof = JwsAssertionVerifier(trust).verify(order.authentication, NOW) if order.authentication else None
    if isinstance(proof, Reason):
        return proof.code
    judged = judge_payment_assertion(
        proof,
        order=order,
        customer_id=customer,
        linked=links.get(proof.identity) if proof else None,
        issuer=trust.issuer(proof.issuer) if proof else None,
        policy=trust.policy,
        exempt=exempt,
        now=NOW,
    )
    return None if isinstance(judged, Accepted) else judged.code


async def test_good_orders_are_proven_where_proof_is_asked_for(
    day: list[Written], cast: Cast, trust: CachedTrustTable
) -> None:
    good = [w for w in day if w.planned.kind in GOOD]
    assert {w.planned.proof for w in good} == {*GROUPS, None}
    assert {verdict(w, cast, trust) for w in good} == {None}
    without = [w for w in good if w.planned.proof is None]
    assert not any(needs_proof(w.planned.amount_minor, w.planned.currency) for w in without)


@pytest.mark.parametrize("kind", FLAWS)
async def test_a_flawed_proof_is_refused_for_its_own_reason(
    day: list[Written], cast: Cast, trust: CachedTrustTable, kind: str
) -> None:
    flawed = [w for w in day if w.planned.kind == kind]
    assert {verdict(w, cast, trust) for w in flawed} == {FLAWS[kind]}


async def test_an_exempt_order_passes_by_the_exemption_alone(
    day: list[Written], cast: Cast, trust: CachedTrustTable
) -> None:
    written = next(w for w in day if w.planned.kind == "exempt")
    assert verdict(written, cast, trust) is ReasonCode.DS0A
    assert verdict(written, cast, trust, exempt=True) is None


def test_either_groups_proofs_go_to_partners_of_either_group(day: list[Written], cast: Cast) -> None:
    pairs = {(w.planned.proof, cast.partner(w.planned.partner_id).home_group) for w in day if w.planned.kind in PAID}
    assert pairs >= {(mine, theirs) for mine in GROUPS for theirs in GROUPS}


def test_a_replayed_id_is_that_of_the_payment_just_before(day: list[Written], cast: Cast) -> None:
    planned = [w.planned for w in day]
    replays = [p for p in planned if p.kind == "proof_replayed"]
    assert replays
    for again in replays:
        first = next(p for p in planned if p.order_id == again.jti_of)
        assert planned.index(first) < planned.index(again)
        assert first.kind in PAID
        assert (first.proof, first.consent_id, first.merchant_id) == (again.proof, again.consent_id, again.merchant_id)


def test_an_exemption_is_used_up_and_starts_anew_after_a_proof(day: list[Written], cast: Cast) -> None:
    for customer in cast.of(Role.EXEMPT):
        assert customer.terms.payment is not None
        exemption = customer.terms.payment.low_value_exemption
        assert exemption is not None
        used: list[int] = []
        for planned in _of(day, customer.terms.consent_id):
            if planned.proof is not None:
                used.clear()
                continue
            amount = decode(PaymentOrder, next(w.record.value for w in day if w.planned is planned)).amount
            fits = exemption_allows(exemption, len(used), sum(used), amount)
            assert fits == (planned.kind == "exempt")
            if fits:
                used.append(amount.minor)
        assert used
        assert len(used) < EXEMPT_COUNT


def test_the_storys_customers_have_a_partner_of_each_group_and_prove_by_both(day: list[Written], cast: Cast) -> None:
    story = [w.planned for w in day if w.planned.wave is Wave.STORY]
    customers = [c for role in STORY for c in cast.of(role)]
    assert {cast.partner(c.terms.partner_id).home_group for c in customers} == set(GROUPS)
    for customer in customers:
        orders = [p for p in story if p.consent_id == customer.terms.consent_id]
        assert [p.kind for p in orders] == ["story_paid", "story_paid", "story_limit", "story_revoked"]
        assert all(a.proof != b.proof for a, b in pairwise(orders))


def test_every_customer_is_known_to_both_providers_under_another_name(cast: Cast) -> None:
    customer = cast.customers[0].terms.customer_id
    links = cast.identities.links([customer], NOW)
    assert {i.customer_id for i in links} == {customer}
    assert len({i.issuer for i in links}) == len({i.subject for i in links}) == len(GROUPS)
    assert {i.subject for i in links} == {subject_of(g, customer) for g in GROUPS}


def test_what_is_free_of_proof_ends_with_its_limit() -> None:
    for currency, most in PROOF_FREE.items():
        assert not needs_proof(most, currency)
        assert needs_proof(most + 1, currency)
    assert needs_proof(1, "EUR")


def _of(day: list[Written], consent_id: str) -> list[Planned]:
    return [w.planned for w in day if w.planned.consent_id == consent_id]
