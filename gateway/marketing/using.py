"""Uses of offers, as affiliates sign them: each is counted once against its offer and its campaign, or refused."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from gateway.base.errors import StoreConflictError
from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.consents.ended_watch import EndedConsentWatch
from gateway.database.unit import Store
from gateway.identity.door import Door
from gateway.identity.parking import park_nobodys
from gateway.identity.signing import KeySource, SignatureVerifier
from gateway.identity.vouching import Vouching
from gateway.marketing.rules.offers import USE_ID_TAKEN, Offer, StoredUse, counted, refuse_offer_use
from gateway.marketing.store import MarketingUnit
from gateway.marketing.telling import use_event
from gateway.messaging.records import DeadLetters, Record
from schemas.marketing import OFFER_USE_TYPE, OfferUse
from schemas.reasons import Reason

MODELS: Final[Mapping[str, type[OfferUse]]] = {OFFER_USE_TYPE: OfferUse}


class UseService:
    """Takes in affiliates' words that offers were used.

    Args:
        keys, verifier: of affiliates, as partners' are.
        watch: compares uses that count with the ends of consents; None: nobody looks.
    """

    def __init__(
        self,
        *,
        store: Store[MarketingUnit],
        keys: KeySource,
        verifier: SignatureVerifier,
        dead_letters: DeadLetters,
        observer: Observer,
        clock: Clock,
        watch: EndedConsentWatch | None = None,
    ) -> None:
        self._watch = watch
        self._store = store
        self._keys = keys
        self._verifier = verifier
        self._door: Door[OfferUse] = Door(verifier=verifier, models=MODELS)
        self._dead_letters = dead_letters
        self._observer = observer
        self._clock = clock

    async def take(self, records: Sequence[Record]) -> None:
        """Bring every record to its end: it is answered, or a dead letter. Then commit offsets."""
        started = asyncio.get_running_loop().time()
        good, parked = await self._door.read_or_park(records, self._clock.now(), self._keys)
        if good:
            # With each attempt: a key may have been disabled while it waited for the locks, or for the database.
            vouched = Vouching(self._verifier, self._clock)
            answers = await until_done(lambda: self._count([(o.message, o.digest) for o in good if vouched(o)]))
            self._report(answers)
            parked += vouched.lapsed
        await park_nobodys(self._dead_letters, self._observer, "marketing", parked)
        self._observer.batch("marketing", size=len(records), seconds=asyncio.get_running_loop().time() - started)

    async def count(self, uses: Sequence[tuple[OfferUse, bytes]]) -> None:
        """Count uses whose signers are known, each with the digest of its bytes, and answer each."""
        self._report(await until_done(lambda: self._count(uses)))

    def _report(self, answers: Sequence[Reason | None]) -> None:
        for answer, n in Counter("use_counted" if a is None else "use_refused" for a in answers).items():
            self._observer.count("marketing", answer, n=n)

    async def _count(self, uses: Sequence[tuple[OfferUse, bytes]]) -> list[Reason | None]:
        ids = sorted({use.offer_id for use, _ in uses})
        async with self._store.transaction() as uow:
            advised = await uow.marketing.offers(ids)
            consents = await uow.consents.lock(sorted({o.consent_key for o in advised.values()}))
            campaigns = dict(await uow.marketing.lock_campaigns(sorted({o.campaign_id for o in advised.values()})))
            offers = dict(await uow.marketing.lock_offers(sorted(advised)))
            known = dict(await uow.marketing.uses([(u.affiliate_id, u.use_id) for u, _ in uses]))
            now = self._clock.now()
            new: list[StoredUse] = []
            changed: dict[str, Offer] = {}
            answers: list[Reason | None] = []
            events = []
            for use, digest in uses:
                offer = offers.get(use.offer_id)
                before = known.get((use.affiliate_id, use.use_id))
                if before is None:
                    consent = consents.get(offer.consent_key) if offer else None
                    reason = refuse_offer_use(use, offer, consent, now)
                    before = StoredUse(
                        use.affiliate_id, use.use_id, use.offer_id, digest, use.amount.minor, reason, now
                    )
                    if reason is None and offer is not None:
                        row = campaigns[offer.campaign_id]
                        offer, campaigns[row.campaign_id] = counted(offer, row, use.amount.minor, now)
                        offers[offer.offer_id] = changed[str(offer.offer_id)] = offer
                    new.append(before)
                    known[before.key] = before
                elif before.digest != digest:
                    before, reason = replace(before, digest=digest, handled_at=now), USE_ID_TAKEN
                else:
                    reason = before.reason
                answers.append(reason)
                events.append(use_event(use, before, reason))
            if len(await uow.marketing.add_uses(new)) != len(new):
                raise StoreConflictError("another worker has answered one of these uses meanwhile")
            await uow.marketing.write_offers(list(changed.values()))
            await uow.marketing.write_campaigns(
                [campaigns[c] for c in sorted({o.campaign_id for o in changed.values()})]
            )
            await uow.outbox.append(events)
        if self._watch is not None and changed:
            self._watch.intended([o.consent_key for o in changed.values()], now)
        return answers
