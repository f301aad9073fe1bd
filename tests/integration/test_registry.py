"""The registries on a real PostgreSQL."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from gateway.app.postgres import PostgresStore
from gateway.app.registries import Registries, open_registries
from gateway.directory.merchants import Merchant
from gateway.directory.partners import NewPartner, PartnerKey, UnknownPartnerError
from gateway.directory.registry import PostgresRegistry
from gateway.network.exchange import Acceptor
from gateway.views.merchants import MerchantsView
from gateway.views.partners import PartnersView
from schemas.consents import ConsentStatus, ConsentTerms, PaymentPurpose
from schemas.primitives import Money
from tests.support.statements import statements

NOW = datetime(2026, 3, 2, 3, 4, 5, tzinfo=UTC)
KEY = PartnerKey(
    kid="acme-1",
    partner_id="acme",
    algorithm="Ed25519",
    jwk={"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
    valid_from=NOW,
    valid_until=None,
    disabled_at=None,
)


def merchant(number: int, *, networks: tuple[str, ...] = ("bcard", "kcard")) -> Merchant:
    return Merchant(
        f"m-{number}", Acceptor(f"A{number}", "KIM'S CAFE SEOUL KR", "5812"), frozenset(networks), active=True
    )


def terms(number: int) -> ConsentTerms:
    return ConsentTerms(
        consent_id=f"c-{number}",
        partner_id="acme",
        customer_id="cust",
        valid_from=NOW,
        valid_until=NOW + timedelta(days=30),
        payment=PaymentPurpose(funding_token="tok", max_per_payment=(Money.of(1000, "KRW"),)),
    )


@pytest.fixture
def database(migrated_database: str) -> str:
    return migrated_database


@pytest.fixture
async def registries(database: str) -> AsyncIterator[Registries]:
    async with open_registries(database) as registries:
        await registries.directory.add_partners([NewPartner("acme", "Acme", "financial")])
        yield registries


@pytest.fixture
def registry(registries: Registries) -> PostgresRegistry:
    return registries.directory


@pytest.fixture
async def partners(registries: Registries, database: str) -> AsyncIterator[PartnersView]:
    async with PartnersView.opened(database) as partners:
        yield partners


async def test_a_partner_is_registered_once_and_can_be_shut_out(
    registry: PostgresRegistry, partners: PartnersView
) -> None:
    added = await registry.add_partners([NewPartner("acme", "Other", "telecom"), NewPartner("beta", "Beta", "telecom")])
    assert added == {"beta"}
    assert await registry.set_partner_active("beta", active=False)
    assert not await registry.set_partner_active("nobody", active=False)
    assert [(p.partner_id, p.name, p.home_group, p.active) for p in await partners.all()] == [
        ("acme", "Acme", "financial", True),
        ("beta", "Beta", "telecom", False),
    ]


async def test_processes_know_the_partners_that_were_not_shut_out(registry: PostgresRegistry, database: str) -> None:
    await registry.add_partners([NewPartner("beta", "Beta", "telecom")])
    await registry.set_partner_active("beta", active=False)
    store = PostgresStore(database)
    await store.start()
    async with store.reading() as uow:
        assert await uow.directory.active_partners() == {"acme"}
        await registry.set_partner_active("beta", active=True)
        assert await uow.directory.active_partners() == {"acme", "beta"}
    await store.stop()


async def test_a_kid_is_never_used_for_another_key(registry: PostgresRegistry, partners: PartnersView) -> None:
    assert await registry.add_keys([KEY]) == {"acme-1"}
    assert await registry.add_keys([replace(KEY, algorithm="ES256"), replace(KEY, kid="acme-2")]) == {"acme-2"}
    assert [(k.kid, k.algorithm) for k in await partners.keys("acme")] == [
        ("acme-1", "Ed25519"),
        ("acme-2", "Ed25519"),
    ]
    assert (await partners.keys("acme"))[0] == KEY
    with pytest.raises(UnknownPartnerError):
        await registry.add_keys([replace(KEY, kid="x", partner_id="nobody")])


async def test_a_disabled_key_keeps_its_first_moment(registry: PostgresRegistry, partners: PartnersView) -> None:
    await registry.add_keys([KEY])
    assert await registry.disable_key("acme", "acme-1", now=NOW) == NOW
    assert await registry.disable_key("acme", "acme-1", now=NOW + timedelta(hours=1)) == NOW
    assert await registry.disable_key("other", "acme-1", now=NOW) is None
    assert [p.live_keys for p in await partners.all()] == [0]


async def test_a_key_is_disabled_under_each_id_that_its_owner_has_it_under(registries: Registries) -> None:
    directory, affiliates, recipients = registries.directory, registries.affiliates, registries.recipients
    other = {**KEY.jwk, "x": "another"}
    await affiliates.add("points", "Points", "telecom")
    await recipients.add("A1AAAA0000", "A bank")
    named = [(f"k-{n}", other if n == 3 else KEY.jwk) for n in (1, 2, 3)]
    await directory.add_keys([replace(KEY, kid=kid, jwk=jwk) for kid, jwk in named])
    await affiliates.add_keys([replace(KEY, kid=kid, jwk=jwk, partner_id="points") for kid, jwk in named])
    for kid, jwk in named:
        await recipients.add_key("A1AAAA0000", kid, jwk, now=NOW)
    for disable, owner in (
        (directory.disable_key, "acme"),
        (affiliates.disable_key, "points"),
        (recipients.disable_key, "A1AAAA0000"),
    ):
        assert await disable(owner, "k-2", now=NOW) == NOW  # type: ignore[operator]
        assert await disable(owner, "k-2", now=NOW + timedelta(days=1)) == NOW  # type: ignore[operator]
    async with registries.transaction():
        found = await registries.public_keys.lock()
    assert {(k.holder.value, k.owner, k.kid, k.disabled_at is None) for k in found} == {
        (holder, owner, kid, kid == "k-3")
        for holder, owner in (("partner", "acme"), ("affiliate", "points"), ("recipient", "A1AAAA0000"))
        for kid, _ in named
    }


async def test_merchants_follow_the_last_import(registry: PostgresRegistry, database: str) -> None:
    await registry.upsert_merchants([merchant(1), merchant(2), merchant(3)])
    changed = structs.replace(merchant(2), networks=frozenset(("kcard",)), active=False)
    await registry.upsert_merchants([changed])
    async with MerchantsView.opened(database) as merchants:
        assert await merchants.page() == [merchant(1), changed, merchant(3)]
        assert await merchants.page(after="m-1", limit=1) == [changed]


async def test_consents_are_stored_once(registries: Registries, database: str) -> None:
    assert await registries.consents.add_consents([(terms(1), ConsentStatus.AUTH), (terms(2), ConsentStatus.AWAU)]) == {
        ("acme", "c-1"),
        ("acme", "c-2"),
    }
    assert await registries.consents.add_consents([(terms(1), ConsentStatus.CANC)]) == frozenset()
    store = PostgresStore(database)
    await store.start()
    async with store.reading() as uow:
        found = await uow.consents.read([("acme", "c-1")])
    await store.stop()
    assert found["acme", "c-1"].terms == terms(1)
    assert found["acme", "c-1"].status is ConsentStatus.AUTH


async def test_five_thousand_consents_take_as_many_statements_as_one(registries: Registries) -> None:
    asked = []
    for numbers in (range(1), range(1, 2), range(2, 5002)):
        async with statements(registries.consents._connection) as some:
            added = await registries.consents.add_consents([(terms(n), ConsentStatus.AUTH) for n in numbers])
        assert len(added) == len(numbers)
        asked.append(some)
    # With the first one the driver asks for the types of columns, too.
    assert asked[2] == asked[1] != []


async def test_an_affiliates_key_is_disabled_for_ever(registries: Registries) -> None:
    affiliates = registries.affiliates
    await affiliates.add("points", "Points", "telecom")
    assert await affiliates.add_keys([replace(KEY, kid="points-1", partner_id="points")]) == {"points-1"}
    assert await affiliates.disable_key("points", "points-1", now=NOW) == NOW
    assert await affiliates.disable_key("points", "points-1", now=NOW + timedelta(days=1)) == NOW
    assert await affiliates.disable_key("mobile", "points-1", now=NOW) is None
