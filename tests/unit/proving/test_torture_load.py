"""The load of a torture run: the mix without its scenes, and which endings are right where everything fails."""

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.directory.funding import token_use
from gateway.proving.books import Ending
from gateway.proving.torture import load as load_module
from gateway.proving.torture.load import Load, Loader, expected_under_faults, make_load
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


@pytest.mark.parametrize("heeded", [True, False])
async def test_a_revocation_that_nobody_heeds_is_told_and_ends(
    load: Load, heeded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Sender:
        sent: int = 0

        async def send(self, planned: Any, **_: object) -> None:
            self.sent += len(planned)

        async def command(self, _: object) -> None: ...

    async def fetch(*_: object) -> list[Any]:
        return [1] if heeded else []

    monkeypatch.setattr(load_module, "fetch", fetch)
    monkeypatch.setattr(load_module, "_RACE_S", 0.01)
    monkeypatch.setattr(load_module, "HEED_TIMEOUT_S", 0.05)
    partners = make_partners()
    cast = make_cast(roles_for(ORDERS), partners=partners, now=datetime.now(UTC), seed=SEED)
    world: Any = SimpleNamespace(cast=cast, postgres_dsn="")
    sender: Any = Sender()
    revocation = load.revocations[0]
    loader = Loader(world, sender, tick=lambda: None)
    short = replace(load, main=[], revocations=[revocation], thefts=[], cancelled=[], cancelled_first=[], refunds={})
    await loader.run(short, per_second=1.0, seed=SEED)
    consent_id = revocation.customer.terms.consent_id
    assert (loader.revoked, loader.unheeded) == ((1, []) if heeded else (0, [consent_id]))
    # What comes after is sent all the same: the books say what became of it.
    assert sender.sent == len(revocation.racing) + len(revocation.after)


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
