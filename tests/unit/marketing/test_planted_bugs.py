"""Bugs planted in marketing are seen in the affiliates' own books, which know events alone and share no rule."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest

from gateway.base.errors import StoreIntegrityError
from gateway.directory.merchants import Merchant
from gateway.marketing import publishing, service, using
from gateway.marketing.rules import activity, aggregates, offers
from gateway.marketing.rules.campaign import Budget
from gateway.marketing.service import OfferService
from gateway.network.exchange import Acceptor
from gateway.payments.rules.lifecycle import PaymentState
from gateway.proving.memory.database import Database
from gateway.proving.memory.store import MemoryStore
from gateway.proving.simulation.bugs.planting import edited, replaced
from schemas.codec import decode, encode
from schemas.consents import ConsentStatus, Purpose
from schemas.marketing import (
    AGGREGATE_TYPE,
    OFFER_GRANTED_TYPE,
    OFFER_WITHDRAWN_TYPE,
    USE_COUNTED_TYPE,
    AggregateTable,
    OfferGranted,
    OfferUse,
    OfferUseCounted,
    OfferWithdrawn,
)
from schemas.primitives import ConsentId, MerchantId, NetworkId, PartnerId
from tests.support.builders import NOW, payment
from tests.support.domain_samples import krw
from tests.support.marketing import MarketingRig, agrees, campaign

K = 3
PEOPLE = range(1, 14)
REVOKING, REVOKED, INTERNAL, LATER = 1, 2, 3, 20
"""Who revokes as offers are made, who does after an offer, whose purpose had ended before, who pays late."""


def counters_not_written() -> AbstractContextManager[None]:
    return edited(OfferService, "_grant", ("await uow.marketing.write_campaigns(list(changed.values()))", "pass"))


def permit_from_before_the_lock() -> AbstractContextManager[None]:
    consents = "consents = await uow.consents."
    return edited(
        OfferService, "_grant", (f"{consents}lock(due)", f"{consents}read(due); await uow.consents.lock(due)")
    )


def permit_for_everybody() -> AbstractContextManager[None]:
    return replaced(activity, "refuse_use", lambda *_: None)


def exclusive_in_name_alone() -> AbstractContextManager[None]:
    return edited(
        offers,
        "_may_have",
        (
            "if campaign.exclusive_group is not None and groups.get(offer.campaign_id) == campaign.exclusive_group:",
            "if False:",
        ),
    )


def use_after_revocation() -> AbstractContextManager[None]:
    return edited(
        using,
        "refuse_offer_use",
        ("if offer.state is OfferState.REVOKED or end is OfferEnd.REVOKED or consent is None:", "if consent is None:"),
        ("refuse_use(consent, Purpose.MARKETING, now) or ", ""),
    )


def revocation_ends_no_offer() -> AbstractContextManager[None]:
    return edited(
        service,
        "end_of_offer",
        (
            "if consent is None or consent.status not in (ConsentStatus.AUTH, ConsentStatus.SUSP):",
            "if consent is None:",
        ),
    )


def amount_not_looked_at() -> AbstractContextManager[None]:
    return replaced(offers, "_refuse_amount", lambda *_: None)


def suppressed_cell_published() -> AbstractContextManager[None]:
    return edited(publishing, "table_of", ("if place in hidden:", "if False:"))


def no_complement() -> AbstractContextManager[None]:
    return replaced(aggregates, "_one_more", lambda *_: None)


def tables_not_laid_side_by_side() -> AbstractContextManager[None]:
    return replaced(publishing, "differs_too_little", lambda *_: False)


class World:
    """Thirteen customers in two cities, one campaign group, and everything that happens to them."""

    def __init__(self) -> None:
        self.database = Database()
        self.store = MemoryStore(self.database)
        self.rig = MarketingRig(self.store, batch=4, k=K)
        self.database.marketing.campaigns.rows.update(
            {
                c: service.CampaignRow(campaign(c, exclusive_group="g", budget=Budget(amount=krw(2_500), offers=50)))
                for c in "ab"
            }
        )
        for n in PEOPLE:
            self.database.put_consent(agrees(n))
            # Of the four cells one has a single customer.
            self.pay(n, "5812" if n % 2 else "5411", "Busan" if n % 4 > 1 else "Seoul")
        self.pay(PEOPLE[0], "5999", "Seoul")
        ended = replace(self.database.consents.rows[key(INTERNAL)], ended=frozenset({Purpose.MARKETING}))
        self.database.consents.rows[key(INTERNAL)] = ended

    def pay(self, number: int, category: str, city: str) -> None:
        name = f"{category}-{city}"
        acceptor = Acceptor("ACCEPTOR1", f"{'Shop':25}{city:13}KR", category)
        self.database.put_merchant(Merchant(MerchantId(name), acceptor, frozenset({NetworkId("net-a")}), active=True))
        paid = payment(
            len(self.database.payments.rows) + 1,
            state=PaymentState.SETTLED,
            version=3,
            consent_id=f"consent-{number}",
            merchant_id=name,
        )
        self.database.payments.rows[PartnerId("partner-1"), paid.payment_id] = paid

    def revoke(self, number: int) -> None:
        self.database.put_consent(agrees(number, version=2, status=ConsentStatus.CANC))

    def told(self, type_: str, model: type[Any]) -> list[Any]:
        return [decode(model, r.event.body) for r in self.database.outbox if r.event.event_type == type_]

    def granted(self) -> dict[Any, OfferGranted]:
        return {o.offer_id: o for o in self.told(OFFER_GRANTED_TYPE, OfferGranted)}

    async def use(self, offer: OfferGranted, use_id: str, amount: int) -> None:
        message = OfferUse(
            use_id=use_id, offer_id=offer.offer_id, affiliate_id=offer.affiliate_id, amount=krw(amount), used_at=NOW
        )
        await self.rig.uses.count([(message, hashlib.sha256(encode(message)).digest())])

    async def play(self) -> None:
        assert self.database.locks.try_acquire(-1, ("consent", key(REVOKING)))
        first = asyncio.create_task(self.rig.offers.grant())
        while not self.database.locks.waiting:  # noqa: ASYNC110 - until it waits, and not a moment longer
            await asyncio.sleep(0)
        self.revoke(REVOKING)
        self.database.locks.release_all(-1)
        await first
        for _ in range(8):
            await self.rig.offers.grant()
        made = {o.customer.rstrip("_"): o for o in self.granted().values()}
        self.revoke(REVOKED)
        for name, offer in sorted(made.items()):
            await self.use(offer, f"use-{name}", 600 if name.endswith("-4") else 400)
            await self.use(offer, f"use-{name}", 600 if name.endswith("-4") else 400)
        await self.rig.offers.end()
        self.rig.clock.set(NOW + timedelta(days=7))
        await self.rig.aggregates.publish()
        self.database.put_consent(agrees(LATER))
        self.pay(LATER, "5411", "Seoul")
        await self.rig.aggregates.publish()


def key(number: int) -> tuple[PartnerId, ConsentId]:
    return (PartnerId("partner-1"), ConsentId(f"consent-{number}"))


def books(world: World) -> set[str]:
    """What the affiliates see."""
    granted = world.granted()
    names = [o.customer.rstrip("_").rpartition("-")[2] for o in granted.values()]
    counted = {u.use_id: u for u in world.told(USE_COUNTED_TYPE, OfferUseCounted)}
    withdrawn = {w.offer_id for w in world.told(OFFER_WITHDRAWN_TYPE, OfferWithdrawn)}
    revoked = {i for i, o in granted.items() if o.customer.rstrip("_").endswith(f"-{REVOKED}")}
    spent = Counter[str]()
    for offer_id, offer in granted.items():
        mine = [u.amount.minor for u in counted.values() if u.offer_id == offer_id]
        spent[offer.campaign_id] += sum(mine) if mine else (0 if offer_id in withdrawn else offer.worth.minor)
    tables = world.told(AGGREGATE_TYPE, AggregateTable)
    seen = {
        "over budget": max(spent.values()) > 2_500
        or max(Counter(o.campaign_id for o in granted.values()).values()) > 6,
        "a second offer": max(Counter(names).values()) > 1,
        "an offer to whoever permits none": {str(REVOKING), str(INTERNAL)} & set(names) != set(),
        "a use after the revocation": bool(revoked & {u.offer_id for u in counted.values()}),
        "an open offer after the revocation": not revoked <= withdrawn,
        "a use for more than the offer's worth": any(u.amount.minor > 500 for u in counted.values()),
        "a small cell": any(c.customers is not None and c.customers < K for t in tables for c in t.cells),
        "a cell that follows": any(_follows(t) for t in tables),
        "one customer between two tables": len(tables) > 1,
    }
    assert revoked
    assert tables
    return {name for name, is_so in seen.items() if is_so}


def _follows(table: AggregateTable) -> bool:
    """True if a line tells its total and all of its cells but one."""
    cells = {(c.category, c.region): c for c in table.cells}
    for total, whole in cells.items():
        for axis in (0, 1):
            if total[axis] is not None:
                continue
            line = [c for p, c in cells.items() if p[axis] is not None and p[1 - axis] == total[1 - axis]]
            if not whole.suppressed and sum(c.suppressed for c in line) == 1:
                return True
    return False


async def violations() -> set[str]:
    world = World()
    try:
        await world.play()
    except StoreIntegrityError as error:
        # The tables' last bounds: a bug in the counters does not get past them.
        return {f"refused: {error}"}
    return books(world)


BUGS: Final = {
    counters_not_written: "refused: campaign_counts",
    permit_from_before_the_lock: "an offer to whoever permits none",
    permit_for_everybody: "an offer to whoever permits none",
    exclusive_in_name_alone: "a second offer",
    use_after_revocation: "a use after the revocation",
    revocation_ends_no_offer: "an open offer after the revocation",
    amount_not_looked_at: "refused: offer_uses",
    suppressed_cell_published: "a small cell",
    no_complement: "a cell that follows",
    tables_not_laid_side_by_side: "one customer between two tables",
}


async def test_without_a_bug_nothing_is_found() -> None:
    assert await violations() == set()


@pytest.mark.parametrize(("plant", "found"), BUGS.items())
async def test_a_planted_bug_is_found(plant: Callable[[], AbstractContextManager[None]], found: str) -> None:
    with plant():
        assert found in await violations()
