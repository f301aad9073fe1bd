"""Offers: granted to eligible customers who agree to them, and ended with what permitted them.

Whether somebody may have an offer is looked at without locks, and decided with them: consents first, then customers,
then campaigns. So caps, budgets and exclusivity hold for however many workers there are.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from gateway.base.keys import ConsentKey
from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.consents.ended_watch import EndedConsentWatch
from gateway.consents.rules.consent import Consent
from gateway.database.unit import Store
from gateway.marketing.rules.activity import MarketingPermit, activities_of, permit_of
from gateway.marketing.rules.campaign import CampaignRow
from gateway.marketing.rules.offers import Offer, OfferState, decide_offers, end_of_offer, ended
from gateway.marketing.store import MarketingUnit, Place
from gateway.marketing.telling import CustomerNames, granted_events, withdrawn_event

FIRST: Final[ConsentKey] = ("", "")  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class MarketingSettings:
    """Bounds of marketing.

    Attributes:
        batch: consents looked at, or offers ended, in one transaction; a larger one holds locks for longer.
        round_every: how often all consents are looked at, for time alone can make somebody eligible. Between rounds
            only those are that changed, or under which something was settled. 0: always all of them.
    """

    batch: int = 500
    round_every: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class _Looking:
    """Where the looking stands.

    Attributes:
        after: the last consent that a round has looked at; None between rounds.
        place: how far events were followed.
        next_round: when the next one begins at the latest.
        running: what may be offered by whom: where that changes a round begins.
    """

    after: ConsentKey | None
    place: Place
    next_round: datetime
    running: object


@dataclass(frozen=True, slots=True)
class _Looked:
    """What was looked at: those who would get an offer if nothing changes, how many consents, how much of all."""

    looking: _Looking | None
    due: Sequence[ConsentKey] = ()
    consents: int = 0
    looked_at: int = 0


class AffiliateSource(Protocol):
    """Who may make offers."""

    async def affiliates(self, uow: MarketingUnit) -> frozenset[str]:
        """Ids of the affiliates that are active, as this unit's connection sees them now."""


class OfferService:
    """Makes offers, and ends them.

    Args:
        affiliates: ids of the affiliates that are active.
        watch: compares offers with the ends of consents; None: nobody looks.
    """

    def __init__(
        self,
        *,
        store: Store[MarketingUnit],
        names: CustomerNames,
        affiliates: AffiliateSource,
        observer: Observer,
        clock: Clock,
        settings: MarketingSettings,
        watch: EndedConsentWatch | None = None,
    ) -> None:
        self._store = store
        self._names = names
        self._affiliates = affiliates
        self._observer = observer
        self._clock = clock
        self._settings = settings
        self._watch = watch
        self._looking: _Looking | None = None

    async def grant(self) -> int:
        """Look at the next consents, and make the offers that are due.

        Returns:
            How many consents or events were looked at: ``batch`` of them where there may be more.
        """
        started = asyncio.get_running_loop().time()
        looked = await until_done(self._look)
        made = await until_done(lambda: self._grant(looked.due)) if looked.due else 0
        # Only now: what an error has cut short is looked at again.
        self._looking = looked.looking
        if looked.consents:
            self._observer.batch("marketing", size=looked.consents, seconds=asyncio.get_running_loop().time() - started)
        self._observer.count("marketing", "granted", n=made)
        return looked.looked_at

    async def end(self) -> int:
        """End offers that are past their time or permitted no more; return how many were looked at."""

        async def find() -> Sequence[Offer]:
            async with self._store.reading() as uow:
                return await uow.marketing.must_end(self._clock.now(), self._settings.batch)

        found = await until_done(find)
        withdrawn = await until_done(lambda: self._end(found)) if found else 0
        self._observer.count("marketing", "withdrawn", n=withdrawn)
        return len(found)

    async def _look(self) -> _Looked:
        """Look at the next consents of a round, or of events between rounds."""
        async with self._store.reading() as uow:
            affiliates = await self._affiliates.affiliates(uow)
            rows = await uow.marketing.campaigns()
            running = _running(rows, self._clock.now())
            if not running:
                return _Looked(None)
            looking, keys, looked_at = await self._next(
                uow, (affiliates, frozenset((c, repr(r.campaign)) for c, r in running.items()))
            )
            consents = await uow.consents.read(keys)
            now = self._clock.now()
            permits = _permits(consents, now)
            made, _ = await self._decide(uow, permits, running, rows, affiliates, now)
        return _Looked(looking, sorted({o.consent_key for o in made}), len(keys), looked_at)

    async def _next(self, uow: MarketingUnit, running: object) -> tuple[_Looking, Sequence[ConsentKey], int]:
        """Which consents are next, and how many of consents or events they are found in."""
        looking, batch, now = self._looking, self._settings.batch, self._clock.now()
        if looking is None or looking.running != running or (looking.after is None and now >= looking.next_round):
            # Events from here on: what happens during the round may be behind its back.
            place = await uow.marketing.end_of_events()
            looking = _Looking(FIRST, place, now + self._settings.round_every, running)
        if looking.after is not None:
            keys = await uow.marketing.candidates(looking.after, batch)
            return replace(looking, after=keys[-1] if len(keys) == batch else None), keys, len(keys)
        found = await uow.marketing.follow(looking.place, 4 * batch)
        return replace(looking, place=found.last), found.keys, found.looked_at

    async def _grant(self, due: Sequence[ConsentKey]) -> int:
        async with self._store.transaction() as uow:
            consents = await uow.consents.lock(due)
            await uow.marketing.lock_customers(sorted({c.terms.customer_id for c in consents.values()}))
            active = [r.campaign_id for r in await uow.marketing.campaigns() if r.active]
            locked = await uow.marketing.lock_campaigns(active)
            # After the locks: what ended before them has ended, and campaigns exclude each other as they stand now. Who
            # disables an affiliate takes the campaigns' locks, too.
            now, rows = self._clock.now(), await uow.marketing.campaigns()
            affiliates = await self._affiliates.affiliates(uow)
            running = _running(locked.values(), now)
            permits = _permits(consents, now)
            if not running or not permits:
                return 0
            made, changed = await self._decide(uow, permits, running, rows, affiliates, now)
            added = await uow.marketing.add_offers(made)
            if len(added) != len(made):
                raise AssertionError("a customer who is locked has no offers that were not read")
            await uow.marketing.write_campaigns(list(changed.values()))
            await uow.outbox.append([event for offer in made for event in granted_events(offer, self._names)])
        if self._watch is not None and made:
            self._watch.intended([o.consent_key for o in made], now)
        return len(made)

    async def _decide(
        self,
        uow: MarketingUnit,
        permits: Sequence[MarketingPermit],
        running: Mapping[str, CampaignRow],
        rows: Sequence[CampaignRow],
        affiliates: frozenset[str],
        now: datetime,
    ) -> tuple[list[Offer], dict[str, CampaignRow]]:
        """Offers to be made under these permits, and the campaigns that they change, by what can be read now."""
        paid = await uow.marketing.paid([p.key for p in permits], _since(running.values(), now))
        return decide_offers(
            activities_of(permits, paid),
            campaigns=running,
            groups=_groups(rows),
            before=await uow.marketing.offers_of(sorted({p.customer_id for p in permits})),
            affiliates=affiliates,
            name=self._names.customer,
            now=now,
        )

    async def _end(self, found: Sequence[Offer]) -> int:
        async with self._store.transaction() as uow:
            consents = await uow.consents.lock(sorted({o.consent_key for o in found}))
            campaigns = dict(await uow.marketing.lock_campaigns(sorted({o.campaign_id for o in found})))
            offers = await uow.marketing.lock_offers(sorted(o.offer_id for o in found))
            now = self._clock.now()
            over, events = [], []
            for offer in offers.values():
                cause = end_of_offer(offer, consents.get(offer.consent_key), now)
                if cause is None or offer.state is not OfferState.OPEN:
                    continue
                after, campaigns[offer.campaign_id] = ended(offer, campaigns[offer.campaign_id], cause, now)
                over.append(after)
                events.append(withdrawn_event(after, cause))
            await uow.marketing.write_offers(over)
            await uow.marketing.write_campaigns([campaigns[c] for c in sorted({o.campaign_id for o in over})])
            await uow.outbox.append(events)
        return len(over)


def _running(rows: Iterable[CampaignRow], now: datetime) -> dict[str, CampaignRow]:
    return {r.campaign_id: r for r in rows if r.active and r.campaign.begins_at <= now < r.campaign.ends_at}


def _groups(rows: Sequence[CampaignRow]) -> Mapping[str, str | None]:
    return {r.campaign_id: r.campaign.exclusive_group for r in rows}


def _since(rows: Iterable[CampaignRow], now: datetime) -> datetime:
    return now - timedelta(days=max(r.campaign.segment.days for r in rows))


def _permits(consents: Mapping[ConsentKey, Consent], now: datetime) -> list[MarketingPermit]:
    """What the consents permit, in their order."""
    found = (permit_of(consents[key], now) for key in sorted(consents))
    return [p for p in found if isinstance(p, MarketingPermit)]
