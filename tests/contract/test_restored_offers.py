"""After a restore: offers and uses that the database has forgotten stand again as they were told, on both stores."""

from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha256
from uuid import UUID

import pytest

from gateway.app.restored_offers import ToldOffers
from gateway.consents.rules.consent import Consent
from gateway.marketing.restoring import OffersFound, offers_again, tables_again
from gateway.marketing.rules.campaign import Budget, Campaign
from gateway.messaging.records import Record
from gateway.outbox.store import OutboxEvent
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import Payment
from schemas.codec import decode, encode
from schemas.consents import ConsentStatus
from schemas.envelope import Envelope, write_envelope
from schemas.events import ConsentOffered, EventType
from schemas.marketing import (
    AGGREGATE_TYPE,
    OFFER_GRANTED_TYPE,
    OFFER_USE_TYPE,
    USE_COUNTED_TYPE,
    AggregateTable,
    OfferGranted,
    OfferUse,
)
from schemas.topics import OFFER_USES, offers_topic
from tests.contract.conftest import Backend, MemoryBackend
from tests.support.builders import NOW, payment
from tests.support.domain_samples import krw, merchant
from tests.support.marketing import MarketingRig, agrees, campaign

CUSTOMERS = (1, 2, 3)


class Lost:
    """What was done since the moment that was restored to, in a database that is lost, and told."""

    def __init__(self, *campaigns: Campaign) -> None:
        self.backend = MemoryBackend()
        self.database = self.backend.database
        self.campaigns = campaigns
        self.sent: list[OfferUse] = []

    async def grant(self) -> list[OfferGranted]:
        """Offers to every customer, as far as their budget goes."""
        self.rig = await restored(self.backend, *self.campaigns)
        await self.rig.offers.grant()
        return sorted(
            (decode(OfferGranted, e.body) for e in self.events if e.event_type == OFFER_GRANTED_TYPE),
            key=lambda o: o.customer,
        )

    async def use(self, offer: OfferGranted, use_id: str = "use-1", value: int = 300) -> OfferUse:
        use = OfferUse(
            use_id=use_id, offer_id=offer.offer_id, affiliate_id=offer.affiliate_id, amount=krw(value), used_at=NOW
        )
        self.sent.append(use)
        await self.rig.uses.count([signed(use)])
        return use

    @property
    def events(self) -> Sequence[OutboxEvent]:
        return [row.event for row in self.database.outbox]

    def told(self) -> ToldOffers:
        offered = [decode(ConsentOffered, e.body) for e in self.events if e.event_type == EventType.CONSENT_OFFERED]
        told = ToldOffers({o.offer_id: o for o in offered})
        for use in self.sent:
            told.send(record(OFFER_USES, OFFER_USE_TYPE, "x", encode(use)))
        told.send(record(OFFER_USES, OFFER_USE_TYPE, "x", b"a stranger's"))
        # The relay may tell it more than once.
        for e in [*self.events, *self.events]:
            if e.topic == offers_topic("bank"):
                told.tell("bank", record(e.topic, e.event_type, e.event_id, e.body))
        return told


def settled(number: int) -> Payment:
    return payment(number, state=PaymentState.SETTLED, version=3, consent_id=f"consent-{number}")


def signed(use: OfferUse) -> tuple[OfferUse, bytes]:
    return use, sha256(encode(use)).digest()


def record(topic: str, type_: str, event_id: str, body: bytes) -> Record:
    headers = tuple(write_envelope(Envelope(event_id, "/x", type_, NOW)))
    return Record(topic, 0, 0, 0, b"key", body, headers)


async def restored(backend: Backend, *campaigns: Campaign) -> MarketingRig:
    """A stage over a database that knows consents and payments, and of no offer."""
    await backend.put_merchants(merchant())
    await backend.put_consents(*map(agrees, CUSTOMERS))
    await backend.put_campaigns(*campaigns)
    async with backend.store.transaction() as uow:
        await uow.payments.insert([settled(n) for n in CUSTOMERS])
    return MarketingRig(backend.store)


async def again(backend: Backend, told: ToldOffers) -> OffersFound:
    async with backend.store.transaction() as uow:
        return await offers_again(uow, told.all)


async def told_here(backend: Backend) -> list[str]:
    return sorted(await backend.outbox_events())


async def test_an_offer_that_was_told_is_neither_made_nor_used_a_second_time(backend: Backend) -> None:
    lost = Lost(campaign())
    first, second, third = await lost.grant()
    used = await lost.use(first)
    stood = lost.database.marketing.campaigns.rows["spring"]
    rig = await restored(backend, campaign())
    found = await again(backend, lost.told())
    assert (found.again, found.uses, found.unplaced) == (3, 1, {})
    async with backend.store.reading() as uow:
        [row] = await uow.marketing.campaigns()
        stand = await uow.marketing.offers([o.offer_id for o in (first, second, third)])
    assert row == stood
    assert {o.key: o for o in stand.values()} == dict(lost.database.marketing.offers.rows)
    # The log is told of them again, and nobody else.
    offered = [f"{o.offer_id}:offered" for o in (first, second, third)]
    assert await told_here(backend) == sorted(offered)
    assert await rig.offers.grant() == 3
    assert await told_here(backend) == sorted(offered)
    # Once more, as the group of uses is set back: answered as before, and what follows is one too many.
    await rig.uses.count([signed(used)])
    answer = next(e for e in lost.events if e.event_type == USE_COUNTED_TYPE)
    assert set(await told_here(backend)) - set(offered) == {answer.event_id}
    more = used.model_copy(update={"use_id": "use-2"})
    await rig.uses.count([signed(more)])
    async with backend.store.reading() as uow:
        assert await uow.marketing.campaigns() == [stood]
        refused = (await uow.marketing.uses([("bank", "use-2")]))["bank", "use-2"].reason
    assert refused is not None
    assert refused.code == "AG01"


async def test_it_may_be_done_again_and_a_use_that_was_refused_stays_so(backend: Backend) -> None:
    lost = Lost(campaign())
    first, *_ = await lost.grant()
    await lost.use(first, value=501)
    await lost.use(first, "use-2")
    await restored(backend, campaign())
    assert (await again(backend, lost.told())).uses == 2
    found = await again(backend, lost.told())
    assert (found.again, found.uses, found.unplaced) == (0, 0, {})
    async with backend.store.reading() as uow:
        stand = await uow.marketing.uses([("bank", "use-1"), ("bank", "use-2")])
    assert stand == lost.database.marketing.uses.rows


async def test_what_was_withdrawn_stays_withdrawn_and_gives_its_budget_to_the_next(backend: Backend) -> None:
    """Of two that a budget for one offer paid for, one after the other, both stand."""
    one = campaign(budget=Budget(amount=krw(500), offers=1))
    lost = Lost(one)
    [first] = await lost.grant()
    lost.database.put_consent(agrees(1, version=2, status=ConsentStatus.CANC))
    await lost.rig.offers.end()
    lost.rig.clock.advance(1)
    await lost.rig.offers.grant()
    stood = lost.database.marketing.offers.rows
    assert [o.state.value for _, o in sorted(stood.items())] == ["revoked", "open"]
    # Here the consent that was revoked is in force: nobody has done that again yet.
    await restored(backend, one)
    found = await again(backend, lost.told())
    assert (found.again, found.unplaced) == (2, {})
    async with backend.store.reading() as uow:
        stand = {o.key: o for o in await uow.marketing.offers_of(["customer-1", "customer-2"])}
        [row] = await uow.marketing.campaigns()
    assert stand == dict(stood)
    assert stand["spring", "customer-1"].offer_id == first.offer_id
    assert row == lost.database.marketing.campaigns.rows["spring"]


async def test_a_use_since_of_an_offer_from_before_counts_whatever_its_consent_permits_now(backend: Backend) -> None:
    lost = Lost(campaign())
    rig = await restored(backend, campaign())
    first, *_ = await lost.grant()
    await rig.offers.grant()
    await lost.use(first)
    told = lost.told()
    await backend.set_status(("partner-1", "consent-1"), ConsentStatus.CANC)  # type: ignore[arg-type]
    assert (await again(backend, told)).uses == 1
    async with backend.store.reading() as uow:
        [row] = await uow.marketing.campaigns()
    assert row == lost.database.marketing.campaigns.rows["spring"]


@pytest.mark.parametrize(
    ("consents", "campaigns", "why"),
    [
        ((), (campaign(),), "its consent does not stand here"),
        ((agrees(1),), (), "its campaign does not stand here, or in another currency"),
    ],
)
async def test_what_cannot_stand_is_named(
    backend: Backend, consents: Sequence[Consent], campaigns: Sequence[Campaign], why: str
) -> None:
    lost = Lost(campaign())
    first, *_ = await lost.grant()
    await lost.use(first)
    await backend.put_consents(*consents)
    await backend.put_campaigns(*campaigns)
    found = await again(backend, lost.told())
    assert (found.again, found.uses, found.unplaced[first.offer_id]) == (0, 0, why)


async def test_a_refused_use_of_an_offer_that_never_was_is_known_again_and_names_none(backend: Backend) -> None:
    lost = Lost(campaign())
    first, *_ = await lost.grant()
    await lost.use(first.model_copy(update={"offer_id": UUID(int=7)}))
    await restored(backend, campaign())
    found = await again(backend, lost.told())
    assert (found.again, found.uses, found.unplaced) == (3, 1, {})
    async with backend.store.reading() as uow:
        assert await uow.marketing.uses([("bank", "use-1")]) == lost.database.marketing.uses.rows


async def test_of_two_that_a_smaller_budget_here_has_no_room_for_one_is_named(backend: Backend) -> None:
    lost = Lost(campaign())
    granted = await lost.grant()
    await restored(backend, campaign(budget=Budget(amount=krw(1_000), offers=8)))
    found = await again(backend, lost.told())
    assert found.again == 2
    assert list(found.unplaced.values()) == ["its campaign has a smaller budget here"]
    assert set(found.unplaced) < {o.offer_id for o in granted}


async def test_a_week_that_was_told_since_is_told_of_no_more(backend: Backend) -> None:
    """Its payments are not known any more: beside what was told, another table could tell of one customer."""
    lost = Lost(campaign())
    await lost.grant()
    lost.rig.clock.set(NOW + timedelta(days=7))
    assert await lost.rig.aggregates.publish() == 1
    [table] = [decode(AggregateTable, e.body) for e in lost.events if e.event_type == AGGREGATE_TYPE]
    rig = await restored(backend, campaign())
    rig.clock.set(NOW + timedelta(days=7))
    # One customer more than was told of.
    await backend.put_consents(agrees(4))
    async with backend.store.transaction() as uow:
        await uow.payments.insert([settled(4)])
    for noted in (1, 0):
        async with backend.store.transaction() as uow:
            assert await tables_again(uow, [table]) == noted
    assert await rig.aggregates.publish() == 0
