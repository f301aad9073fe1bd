"""Marketing on both stores: offers, their ends and their uses under locks, and aggregates that tell of nobody."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest
from msgspec import structs

from gateway.app.marketing import RegisteredAffiliates
from gateway.app.registries import disable_affiliate, open_registries
from gateway.consents.rules.consent import Consent
from gateway.disclosure.rules.destruction import OldRows
from gateway.marketing.rules.campaign import Budget, Campaign, Frequency, Segment
from gateway.marketing.rules.offers import OfferState
from gateway.network.exchange import Operation
from gateway.outbox.store import OutboxEvent
from gateway.payments.rules.lifecycle import PaymentState
from schemas.codec import decode, encode
from schemas.consents import Channel, ConsentStatus, Purpose
from schemas.events import ConsentOffered, EventType
from schemas.marketing import (
    AGGREGATE_TYPE,
    OFFER_GRANTED_TYPE,
    OFFER_WITHDRAWN_TYPE,
    USE_COUNTED_TYPE,
    USE_REFUSED_TYPE,
    AggregateTable,
    OfferGranted,
    OfferUse,
    OfferUseCounted,
    OfferUseRefused,
    OfferWithdrawn,
)
from schemas.primitives import ConsentId, MerchantId, Money, PartnerId
from schemas.sharing import SharingUse
from schemas.topics import events_topic
from tests.contract.conftest import Backend, MemoryBackend, PostgresBackend, postgres_backend
from tests.support.builders import NOW, payment
from tests.support.domain_samples import krw, merchant
from tests.support.leading import led
from tests.support.marketing import MarketingRig, agrees, campaign

KRW_300 = krw(300)
TYPES: dict[type[Any], str] = {
    OfferGranted: OFFER_GRANTED_TYPE,
    OfferWithdrawn: OFFER_WITHDRAWN_TYPE,
    OfferUseCounted: USE_COUNTED_TYPE,
    OfferUseRefused: USE_REFUSED_TYPE,
    AggregateTable: AGGREGATE_TYPE,
    ConsentOffered: EventType.CONSENT_OFFERED,
}


async def told(backend: Backend, model: type[Any]) -> list[Any]:
    reader = await led(backend.reader())
    await backend.until_readable()
    rows = await reader.read(10_000)
    await reader.release()
    return [decode(model, r.event.body) for r in rows if r.event.event_type == TYPES[model]]


async def spend(backend: Backend, *customers: int, first: int = 1, **fields: Any) -> None:
    """A settled payment of each of these customers."""
    rows = [
        payment(first + n, **({"state": PaymentState.SETTLED, "version": 3, "consent_id": f"consent-{c}"} | fields))
        for n, c in enumerate(customers)
    ]
    async with backend.store.transaction() as uow:
        await uow.payments.insert(rows)


def key(number: int) -> tuple[PartnerId, ConsentId]:
    return (PartnerId("partner-1"), ConsentId(f"consent-{number}"))


async def change(backend: Backend, number: int, consent: Consent) -> None:
    async with backend.store.transaction() as uow:
        [record] = (await uow.consents.lock_records([key(number)])).values()
        await uow.consents.update([replace(record, consent=consent, changes=record.changes + 1)], now=NOW)


def use(offer: OfferGranted, use_id: str = "use-1", amount: Money = KRW_300, **fields: Any) -> tuple[OfferUse, bytes]:
    defaults: dict[str, Any] = {
        "use_id": use_id,
        "offer_id": offer.offer_id,
        "affiliate_id": offer.affiliate_id,
        "amount": amount,
        "used_at": NOW,
    }
    message = OfferUse(**(defaults | fields))
    return message, hashlib.sha256(encode(message)).digest()


@pytest.fixture
async def ready(backend: Backend) -> Backend:
    """Three customers who agree and have spent."""
    await backend.put_merchants(merchant())
    await backend.put_consents(*map(agrees, (1, 2, 3)))
    await spend(backend, 1, 2, 3)
    return backend


async def granted(backend: Backend) -> list[OfferGranted]:
    return sorted(await told(backend, OfferGranted), key=lambda o: (o.customer, o.campaign_id))


async def test_each_customer_who_agrees_is_made_one_offer(ready: Backend) -> None:
    await ready.put_campaigns(campaign())
    rig = MarketingRig(ready.store)
    for _ in range(3):
        await rig.offers.grant()
    offers = await granted(ready)
    assert [o.customer.rstrip("_") for o in offers] == [f"bank_customer-{n}" for n in (1, 2, 3)]
    assert {(o.channels, o.worth, o.affiliate_id) for o in offers} == {(("app",), krw(500), "bank")}
    assert {o.expires_at for o in offers} == {NOW + timedelta(days=14)}
    partners = await told(ready, ConsentOffered)
    assert sorted(p.consent_id for p in partners) == ["consent-1", "consent-2", "consent-3"]


@pytest.mark.parametrize(
    ("fields", "consent"),
    [
        pytest.param({"segment": Segment(days=30, amount_min=krw(10_001))}, {}, id="spent too little"),
        pytest.param({"segment": Segment(days=30, amount_min=krw(1), amount_max=krw(9_999))}, {}, id="too much"),
        pytest.param({"segment": Segment(days=30, amount_min=krw(1), payments_min=2)}, {}, id="too seldom"),
        pytest.param({"segment": Segment(days=30, amount_min=krw(1), categories=("5812",))}, {}, id="other category"),
        pytest.param({"segment": Segment(days=30, amount_min=krw(1), regions=("Busan",))}, {}, id="other region"),
        pytest.param({"begins_at": NOW + timedelta(days=1)}, {}, id="not begun"),
        pytest.param({"ends_at": NOW}, {}, id="over"),
        pytest.param({}, {"affiliates": ("points",)}, id="another affiliate"),
        pytest.param({}, {"channels": ("email",)}, id="another channel"),
        pytest.param({}, {"status": ConsentStatus.SUSP}, id="suspended"),
        pytest.param({}, {"until_days": 0}, id="past its own end"),
    ],
)
async def test_no_offer(backend: Backend, fields: dict[str, Any], consent: dict[str, Any]) -> None:
    await backend.put_merchants(merchant())
    await backend.put_consents(agrees(1, **consent))
    await spend(backend, 1)
    await backend.put_campaigns(campaign(**fields))
    await MarketingRig(backend.store).offers.grant()
    assert await granted(backend) == []


async def test_refunds_and_what_is_not_settled_count_nothing(backend: Backend) -> None:
    await backend.put_merchants(merchant())
    await backend.put_consents(agrees(1))
    await backend.put_campaigns(campaign())
    await spend(backend, 1, state=PaymentState.APPROVED)
    await spend(backend, 1, first=2, operation=Operation.REFUND, original_payment_id=payment(1).payment_id)
    await MarketingRig(backend.store).offers.grant()
    assert await granted(backend) == []


async def test_an_inactive_affiliate_makes_no_offer(ready: Backend) -> None:
    await ready.put_campaigns(campaign())
    rig = MarketingRig(ready.store)
    rig.affiliates.ids = frozenset({"mobile"})
    await rig.offers.grant()
    assert await granted(ready) == []


@pytest.mark.parametrize(
    "budget", [Budget(amount=krw(1_499), offers=8), Budget(amount=krw(5_000), offers=2)], ids=["money", "number"]
)
async def test_a_budget_ends_a_campaign_and_what_ended_unused_opens_it_again(ready: Backend, budget: Budget) -> None:
    await ready.put_campaigns(campaign(budget=budget))
    rig = MarketingRig(ready.store)
    await rig.offers.grant()
    assert len(await granted(ready)) == 2
    await change(ready, 1, agrees(1, status=ConsentStatus.CANC))
    await rig.offers.end()
    await rig.offers.grant()
    assert len(await granted(ready)) == 3
    assert len(await told(ready, OfferWithdrawn)) == 1


async def test_an_exclusive_group_makes_a_customer_one_offer(ready: Backend) -> None:
    await ready.put_campaigns(
        campaign("a", exclusive_group="g"), campaign("b", exclusive_group="g"), campaign("c", exclusive_group="other")
    )
    rig = MarketingRig(ready.store)
    for _ in range(2):
        await rig.offers.grant()
    assert Counter(o.campaign_id for o in await granted(ready)) == {"a": 3, "c": 3}


@asynccontextmanager
async def rewriting(backend: Backend, changed: Campaign) -> AsyncIterator[None]:
    """An operator writes a campaign, and others wait for it until the block ends."""
    match backend:
        case MemoryBackend():
            async with backend.store.transaction() as uow:
                await uow.marketing.lock_campaigns([changed.campaign_id])
                yield
                await backend.put_campaigns(changed)
        case PostgresBackend():
            async with open_registries(backend.dsn) as registries, registries.transaction():
                await registries.campaigns.apply(changed, now=NOW)
                yield


async def test_campaigns_exclude_each_other_as_they_stand_once_they_are_locked(ready: Backend) -> None:
    await ready.put_campaigns(campaign("a"))
    rig = MarketingRig(ready.store)
    await rig.offers.grant()
    await ready.put_campaigns(campaign("b", exclusive_group="g"))
    async with rewriting(ready, campaign("a", exclusive_group="g")):
        granting = asyncio.create_task(rig.offers.grant())
        await ready.until_blocked(granting)
    await granting
    assert {o.campaign_id for o in await granted(ready)} == {"a"}


@pytest.mark.integration
async def test_no_offer_is_an_affiliates_that_was_disabled_before_it_is_decided(contract_dsn: str) -> None:
    """Who disables it waits for offers that are being decided; whoever decides one later sees that it is disabled."""
    async with postgres_backend(contract_dsn) as backend:
        await backend.put_merchants(merchant())
        await backend.put_consents(agrees(1))
        await spend(backend, 1)
        await backend.put_campaigns(campaign())
        rig = MarketingRig(backend.store, affiliates=RegisteredAffiliates())
        async with open_registries(backend.dsn) as registries:
            await registries.affiliates.add("bank", "Bank", "financial")
            async with backend.store.transaction() as uow:
                await uow.marketing.lock_campaigns(["spring"])
                disabling = asyncio.create_task(registries.affiliates.set_active("bank", active=False))
                await backend.until_blocked(disabling)
            assert await disabling
            await registries.affiliates.set_active("bank", active=True)
            async with registries.transaction():
                await registries.affiliates.set_active("bank", active=False)
                granting = asyncio.create_task(rig.offers.grant())
                await backend.until_blocked(granting)
            await granting
        assert await granted(backend) == []


@pytest.mark.integration
async def test_offers_of_a_campaign_activated_while_its_affiliate_is_disabled_are_waited_for(contract_dsn: str) -> None:
    """It was not active as campaigns were held; who decides its offers read before that the affiliate is active."""
    async with (
        postgres_backend(contract_dsn) as backend,
        open_registries(backend.dsn) as registries,
        open_registries(backend.dsn) as others,
    ):
        await backend.put_campaigns(campaign())
        await registries.affiliates.add("bank", "Bank", "financial")
        await registries.campaigns.set_active("spring", active=False)
        looking = RegisteredAffiliates()
        async with backend.store.transaction() as deciding:
            async with others.transaction():
                # It waits for the affiliate, once it has held the campaigns.
                await others.affiliates.lock_approval("bank", SharingUse.LOYALTY)
                disabling = asyncio.create_task(disable_affiliate(backend.dsn, "bank"))
                await backend.until_blocked(disabling)
                await registries.campaigns.set_active("spring", active=True)
                await deciding.marketing.lock_campaigns(["spring"])
                assert "bank" in await looking.affiliates(deciding)
            while "bank" in await looking.affiliates(deciding):
                assert not disabling.done()
            await backend.until_blocked(disabling)
        assert await disabling
        assert not await disable_affiliate(backend.dsn, "nobody")


async def test_a_customer_gets_no_more_than_the_frequency_allows(ready: Backend) -> None:
    often = {"frequency": Frequency(offers=2, days=7)}
    await ready.put_campaigns(*(campaign(c, **often) for c in "abc"))
    rig = MarketingRig(ready.store)
    await rig.offers.grant()
    assert Counter(o.campaign_id for o in await granted(ready)) == {"a": 3, "b": 3}
    rig.clock.set(NOW + timedelta(days=7))
    await rig.offers.grant()
    assert len(await granted(ready)) == 9


async def test_a_revocation_that_commits_first_stops_the_offer(ready: Backend) -> None:
    """The revocation holds the lock as the stage asks for it: whoever comes later sees what it wrote."""
    await ready.put_campaigns(campaign())
    rig = MarketingRig(ready.store)
    async with ready.store.transaction() as uow:
        [record] = (await uow.consents.lock_records([key(1)])).values()
        granting = asyncio.create_task(rig.offers.grant())
        await ready.until_blocked(granting)
        ended = replace(record.consent, ended=frozenset({Purpose.MARKETING}))
        await uow.consents.update([replace(record, consent=ended)], now=NOW)
    await granting
    assert [o.customer.rstrip("_") for o in await granted(ready)] == ["bank_customer-2", "bank_customer-3"]


@pytest.mark.parametrize(
    ("after", "cause"),
    [
        pytest.param({"status": ConsentStatus.CANC}, "revoked", id="revoked"),
        pytest.param({"affiliates": ("points",)}, "revoked", id="affiliate dropped"),
        pytest.param({"channels": (Channel.EMAIL, Channel.SMS)}, "revoked", id="channel dropped"),
        pytest.param({"status": ConsentStatus.SUSP}, None, id="suspended"),
        pytest.param({"until_days": 0}, "expired", id="permitted for less long"),
    ],
)
async def test_open_offers_end_with_what_permitted_them(
    ready: Backend, after: dict[str, Any], cause: str | None
) -> None:
    await ready.put_campaigns(campaign())
    rig = MarketingRig(ready.store)
    await rig.offers.grant()
    await change(ready, 1, agrees(1, version=2, **after))
    await rig.offers.end()
    await rig.offers.end()
    assert [w.cause for w in await told(ready, OfferWithdrawn)] == ([] if cause is None else [cause])
    offer = (await granted(ready))[0]
    await rig.uses.count([use(offer)])
    [refused] = await told(ready, OfferUseRefused)
    assert refused.reason.code == {"revoked": "MD01", "expired": "TKXP", None: "TKSP"}[cause]


async def test_an_offer_on_two_channels_ends_with_one_of_them_and_goes_on_beside_others(backend: Backend) -> None:
    both = (Channel.APP, Channel.SMS)
    await backend.put_merchants(merchant())
    await backend.put_consents(*(agrees(n, channels=both) for n in (1, 2)))
    await spend(backend, 1, 2)
    await backend.put_campaigns(campaign(channels=both))
    rig = MarketingRig(backend.store)
    await rig.offers.grant()
    assert {o.channels for o in await granted(backend)} == {both}
    await change(backend, 1, agrees(1, version=2, channels=(Channel.APP,)))
    await change(backend, 2, agrees(2, version=2, channels=(Channel.EMAIL, *both)))
    await rig.offers.end()
    first = next(o for o in await granted(backend) if o.customer.rstrip("_") == "bank_customer-1")
    assert [w.offer_id for w in await told(backend, OfferWithdrawn)] == [first.offer_id]


async def test_an_offer_expires(ready: Backend) -> None:
    await ready.put_campaigns(campaign())
    rig = MarketingRig(ready.store)
    await rig.offers.grant()
    rig.clock.set(NOW + timedelta(days=14))
    assert await rig.offers.end() == 3
    assert {w.cause for w in await told(ready, OfferWithdrawn)} == {"expired"}
    [row] = await rows(ready)
    assert (row.offers, row.held_minor, row.used_minor) == (0, 0, 0)


async def rows(backend: Backend) -> Sequence[Any]:
    async with backend.store.reading() as uow:
        return await uow.marketing.campaigns()


async def test_a_use_is_counted_once_however_often_it_is_told(ready: Backend) -> None:
    await ready.put_campaigns(campaign())
    rig = MarketingRig(ready.store)
    await rig.offers.grant()
    [offer, *_] = await granted(ready)
    await rig.uses.count([use(offer), use(offer)])
    await rig.uses.count([use(offer)])
    assert len(await told(ready, OfferUseCounted)) == 3
    [row] = await rows(ready)
    assert (row.offers, row.held_minor, row.used_minor) == (3, 1_000, 300)
    await rig.uses.count([use(offer, amount=krw(400)), use(offer, "use-2")])
    again, second = await told(ready, OfferUseRefused)
    assert (again.reason.code, second.reason.code) == ("AM05", "AG01")
    assert (await rows(ready))[0] == row


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        pytest.param({"offer_id": UUID(int=7)}, "FF01", id="no such offer"),
        pytest.param({"affiliate_id": "mobile"}, "FF01", id="another affiliate's"),
        pytest.param({"amount": krw(501)}, "TKVE", id="too much"),
        pytest.param({"amount": krw(1).model_copy(update={"currency": "JPY"})}, "AM03", id="another currency"),
    ],
)
async def test_a_use_is_refused(ready: Backend, fields: dict[str, Any], code: str) -> None:
    await ready.put_campaigns(campaign())
    rig = MarketingRig(ready.store)
    await rig.offers.grant()
    [offer, *_] = await granted(ready)
    await rig.uses.count([use(offer, **fields)])
    [refused] = await told(ready, OfferUseRefused)
    assert refused.reason.code == code
    [row] = await rows(ready)
    assert row.used_minor == 0


async def test_an_offer_may_be_used_as_often_as_it_says(ready: Backend) -> None:
    await ready.put_campaigns(campaign(uses_max=2))
    rig = MarketingRig(ready.store)
    await rig.offers.grant()
    [offer, *_] = await granted(ready)
    await rig.uses.count([use(offer, f"use-{n}") for n in range(3)])
    assert len(await told(ready, OfferUseCounted)) == 2
    assert len(await told(ready, OfferUseRefused)) == 1
    async with ready.store.reading() as uow:
        row = (await uow.marketing.offers([offer.offer_id]))[offer.offer_id]
    assert (row.state, row.uses, row.used_minor) == (OfferState.USED, 2, 600)


@pytest.mark.parametrize("seed", range(3))
async def test_many_workers_at_once_stay_within_every_bound(backend: Backend, seed: int) -> None:
    """Oracle: what the events say, added up by itself, is what the campaigns hold, and is within every bound."""
    random = Random(seed)
    people = range(1, 13)
    await backend.put_merchants(merchant())
    await backend.put_consents(*map(agrees, people))
    await spend(backend, *people)
    tight = {"budget": Budget(amount=krw(4_100), offers=7), "frequency": Frequency(offers=2, days=30)}
    campaigns = [campaign(c, exclusive_group="g" if c in "ab" else None, uses_max=2, **tight) for c in "abcd"]
    await backend.put_campaigns(*campaigns)
    rigs = [MarketingRig(backend.store, batch=random.choice([2, 5, 100])) for _ in range(4)]

    async def grant(rig: MarketingRig) -> None:
        for _ in range(8):
            await rig.offers.grant()

    async def spoil() -> None:
        for number in random.sample(people, 4):
            await change(backend, number, agrees(number, version=2, status=ConsentStatus.CANC))
            await rigs[0].offers.end()

    await asyncio.gather(*map(grant, rigs), spoil())
    offers = await granted(backend)
    told_uses = [use(o, f"{o.campaign_id}-{o.customer.rstrip('_')}-{n}", krw(450)) for o in offers for n in range(3)]

    async def tell(rig: MarketingRig) -> None:
        mine = random.sample(told_uses, len(told_uses))
        for begin in range(0, len(mine), 5):
            await rig.uses.count(mine[begin : begin + 5])

    await asyncio.gather(*map(tell, rigs), *map(grant, rigs[:2]), rigs[3].offers.end())

    offers = await granted(backend)
    counted = {u.use_id: u for u in await told(backend, OfferUseCounted)}
    withdrawn = {w.offer_id for w in await told(backend, OfferWithdrawn)}
    assert len({(o.campaign_id, o.customer) for o in offers}) == len(offers)
    assert max(Counter(o.customer for o in offers if o.campaign_id in "ab").values()) == 1
    assert max(Counter(o.customer for o in offers).values()) <= 2
    uses = Counter(u.offer_id for u in counted.values())
    assert max(uses.values()) <= 2
    by_id = {o.offer_id: o for o in offers}
    for row in await rows(backend):
        mine = [o for o in offers if o.campaign_id == row.campaign_id]
        used = sum(u.amount.minor for u in counted.values() if by_id[u.offer_id].campaign_id == row.campaign_id)
        held = sum(500 * (2 - uses[o.offer_id]) for o in mine if o.offer_id not in withdrawn)
        number = sum(o.offer_id not in withdrawn or uses[o.offer_id] > 0 for o in mine)
        assert (row.offers, row.held_minor, row.used_minor) == (number, held, used)
        assert held + used <= 4_100
        assert number <= 7


def happened(type_: EventType, topic_key: str, partner: str = "partner-1") -> OutboxEvent:
    return OutboxEvent(events_topic(PartnerId(partner)), topic_key, "e", type_, NOW, b"{}")


async def test_between_rounds_only_those_are_looked_at_of_whom_something_happened(backend: Backend) -> None:
    await backend.put_merchants(merchant())
    await backend.put_consents(*map(agrees, range(1, 7)))
    await backend.put_campaigns(campaign())
    rig = MarketingRig(backend.store, batch=4, round_every=timedelta(minutes=10))
    # A round over all, in batches; then nothing.
    assert [await rig.offers.grant() for _ in range(3)] == [4, 2, 0]
    # Spent without a word of it: the next round finds it.
    await spend(backend, 1)
    assert await rig.offers.grant() == 0
    await spend(backend, 2, 3, first=2)
    async with backend.store.transaction() as uow:
        settled = str(payment(2).payment_id)
        await uow.outbox.append(
            [
                happened(EventType.PAYMENT_SENT, str(payment(3).payment_id)),
                happened(EventType.PAYMENT_SETTLED, settled),
                happened(EventType.PAYMENT_SETTLED, settled, "partner-2"),
                happened(EventType.CONSENT_CHANGED, "consent-9"),
            ]
        )
    await backend.until_readable()
    assert await rig.offers.grant() == 4
    assert [o.customer.rstrip("_") for o in await granted(backend)] == ["bank_customer-2"]
    async with backend.store.transaction() as uow:
        await uow.outbox.append([happened(EventType.CONSENT_CHANGED, "consent-3")])
    await backend.until_readable()
    await rig.offers.grant()
    assert len(await granted(backend)) == 2
    rig.clock.advance(600)
    while await rig.offers.grant():
        pass
    assert [o.customer.rstrip("_") for o in await granted(backend)] == [f"bank_customer-{n}" for n in (1, 2, 3)]


async def test_a_campaign_that_is_new_is_looked_at_for_everybody(ready: Backend) -> None:
    rig = MarketingRig(ready.store, round_every=timedelta(minutes=10))
    assert await rig.offers.grant() == 0
    await ready.put_campaigns(campaign())
    assert await rig.offers.grant() == 3
    assert len(await granted(ready)) == 3
    assert await rig.offers.grant() >= 0
    await ready.put_campaigns(campaign(campaign_id="autumn"))
    assert await rig.offers.grant() == 3


async def aggregates(backend: Backend, rig: MarketingRig) -> list[AggregateTable]:
    while await rig.aggregates.publish():
        pass
    return await told(backend, AggregateTable)


async def test_a_week_is_told_where_enough_customers_stand_behind_it(backend: Backend) -> None:
    await backend.put_merchants(merchant())
    await backend.put_consents(*map(agrees, range(1, 6)))
    await spend(backend, 1, 2)
    rig = MarketingRig(backend.store)
    rig.clock.set(NOW + timedelta(days=7))
    assert await aggregates(backend, rig) == []
    await spend(backend, 3, 4, first=3)
    [table] = await aggregates(backend, rig)
    assert {(c.customers, c.payments, c.amount) for c in table.cells} == {(4, 4, krw(40_000))}
    # One customer more would stand alone between both tables.
    await spend(backend, 5, first=5)
    assert await aggregates(backend, rig) == [table]


async def test_whoever_revokes_is_not_told_by_the_difference(backend: Backend) -> None:
    await backend.put_merchants(merchant())
    await backend.put_consents(*map(agrees, range(1, 9)))
    await spend(backend, *range(1, 9))
    rig = MarketingRig(backend.store)
    rig.clock.set(NOW + timedelta(days=7))
    assert len(await aggregates(backend, rig)) == 1
    for gone, tables in ((1, 1), (2, 1), (3, 2)):
        await change(backend, gone, agrees(gone, version=2, status=ConsentStatus.CANC))
        assert len(await aggregates(backend, rig)) == tables


async def test_a_revocation_that_commits_first_is_in_no_table(backend: Backend) -> None:
    """It holds the lock as the table is told, which was counted before: whoever comes later sees what it wrote."""
    await backend.put_merchants(merchant())
    await backend.put_consents(*map(agrees, range(1, 9)))
    await spend(backend, *range(1, 9))
    rig = MarketingRig(backend.store)
    rig.clock.set(NOW + timedelta(days=7))
    async with backend.store.transaction() as uow:
        [record] = (await uow.consents.lock_records([key(3)])).values()
        publishing = asyncio.create_task(rig.aggregates.publish())
        await backend.until_blocked(publishing)
        ended = replace(record.consent, status=ConsentStatus.CANC)
        await uow.consents.update([replace(record, consent=ended)], now=NOW)
    assert await publishing == 1
    [table] = await told(backend, AggregateTable)
    assert {c.customers for c in table.cells} == {7}


async def test_what_a_table_withheld_no_later_one_gives_away(backend: Backend) -> None:
    await backend.put_merchants(
        *(structs.replace(merchant(mcc=f"540{n}"), merchant_id=MerchantId(f"merchant-{n}")) for n in (1, 2, 3))
    )
    await backend.put_consents(*map(agrees, range(1, 12)))
    await spend(backend, 1, first=1, merchant_id="merchant-1")
    await spend(backend, 2, 3, 4, first=2, merchant_id="merchant-2")
    await spend(backend, 5, 6, 7, first=5, merchant_id="merchant-3")
    rig = MarketingRig(backend.store)
    rig.clock.set(NOW + timedelta(days=7))
    [first] = await aggregates(backend, rig)
    assert {c.category for c in first.cells if c.suppressed} == {"5401", "5402"}
    # Its total less both others, which a second table would tell, is what one customer has paid.
    await spend(backend, 8, 9, 10, first=8, merchant_id="merchant-1")
    assert await aggregates(backend, rig) == [first]


async def test_a_week_whose_payments_were_destroyed_is_told_of_no_more(backend: Backend) -> None:
    """Nothing can be compared with what was told of it: the difference could be one customer."""
    await backend.put_merchants(merchant())
    await backend.put_consents(*map(agrees, range(1, 12)))
    await spend(backend, *range(1, 9))
    rig = MarketingRig(backend.store)
    rig.clock.set(NOW + timedelta(days=7))
    [first] = await aggregates(backend, rig)
    async with backend.store.transaction() as uow:
        await uow.old_rows.destroy(OldRows.CONTRIBUTIONS, before=rig.clock.now(), limit=1)
    await spend(backend, 9, 10, 11)
    assert await aggregates(backend, rig) == [first]
