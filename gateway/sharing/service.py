"""Sharing: what is settled and what changed of consents → shares and erase notices, a batch in one transaction.

The stage reads the outbox behind a place of its own, so a payment's own transactions know nothing of it. Within one
transaction the place moves on, the consents are locked and judged, and what follows is written and told: a crash at any
moment leaves all of it or nothing, and two workers at once cannot both move the place.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID, uuid5

from msgspec import Struct

from gateway.base.keys import ConsentKey
from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.consents.ended_watch import EndedConsentWatch
from gateway.database.unit import Store
from gateway.sharing.pseudonyms import Named, Pseudonyms
from gateway.sharing.rules.deciding import Granted, decide_shares, erase_cause
from gateway.sharing.rules.records import Approval, Holder, Notice, Page, ShareRow
from gateway.sharing.store import SharingUnit
from gateway.sharing.telling import ShareTeller, notice_event

_NOTICES = UUID("5f6d7970-6179-4d65-9d65-6572617365ff")


@dataclass(frozen=True, slots=True)
class SharingSettings:
    """Bounds of sharing; each has its reason.

    Attributes:
        batch: events looked at in one transaction; a larger one holds consents' locks for longer.
        erase_within: how long an affiliate has to confirm that it has erased.
    """

    batch: int = 2000
    erase_within: timedelta = timedelta(days=7)


class _Share(Struct, frozen=True, gc=False):
    granted: Granted
    row: ShareRow


class SharingService:
    """Shares what is settled, and tells affiliates what they must erase.

    Args:
        watch: compares what is shared with the ends of consents; None: nobody looks.
    """

    def __init__(
        self,
        *,
        store: Store[SharingUnit],
        pseudonyms: Pseudonyms,
        observer: Observer,
        clock: Clock,
        settings: SharingSettings,
        watch: EndedConsentWatch | None = None,
    ) -> None:
        self._store = store
        self._pseudonyms = pseudonyms
        self._observer = observer
        self._clock = clock
        self._settings = settings
        self._watch = watch
        self._follows = False

    async def share(self) -> int:
        """Deal with one batch of what happened; return how many events that was."""
        return await until_done(self._share_once)

    async def sweep(self) -> int:
        """Tell those who must erase and were not told by the change itself; return how many they were.

        That an approval was withdrawn is no event: it is found here. Else nothing is left to find, unless this stage
        stood still for longer than events are kept.
        """

        async def find() -> Sequence[ConsentKey]:
            async with self._store.reading() as uow:
                return await uow.sharing.must_erase(self._clock.now(), self._settings.batch)

        keys = await until_done(find)

        async def tell() -> int:
            async with self._store.transaction() as uow:
                return await self._tell_erasures(uow, keys)

        told = await until_done(tell) if keys else 0
        self._observer.count("sharing", "erase_notice", n=told)
        return told

    async def _share_once(self) -> int:
        started = asyncio.get_running_loop().time()
        if not self._follows:
            # Before anything is read: from now on nothing is forgotten that was not.
            async with self._store.transaction() as uow:
                await uow.sharing.follow()
            self._follows = True
        async with self._store.reading() as uow:
            before = await uow.sharing.place()
            page = await uow.sharing.read(before, self._settings.batch)
        if page.last == before:
            return 0
        shared, told, decided_at = 0, 0, None
        async with self._store.transaction() as uow:
            # First of all: whoever is late learns it here, and has judged nothing.
            if not await uow.sharing.advance(before, page.last):
                return 0
            if page.settled or page.changed:
                shared, decided_at = await self._share(uow, page)
                told = await self._tell_erasures(uow, page.changed)
        if self._watch is not None and decided_at is not None and shared:
            self._watch.intended([p.consent_key for p in page.settled], decided_at)
        if page.settled or page.changed:
            seconds = asyncio.get_running_loop().time() - started
            self._observer.batch("sharing", size=len(page.settled), seconds=seconds)
            self._observer.count("sharing", "shared", n=shared)
            self._observer.count("sharing", "erase_notice", n=told)
        return page.looked_at

    async def _share(self, uow: SharingUnit, page: Page) -> tuple[int, datetime]:
        """Under the locks of the consents, in key order, those that changed among them: one order for all that lock."""
        keys = sorted({p.consent_key for p in page.settled} | set(page.changed))
        consents = await uow.consents.lock(keys)
        # After the locks: what ended before them has ended.
        now = self._clock.now()
        if not page.settled:
            return 0, now
        approvals: dict[str, list[Approval]] = defaultdict(list)
        for approval in await uow.sharing.approvals():
            approvals[approval.affiliate_id].append(approval)
        granted = decide_shares(page.settled, consents=consents, approvals=approvals, now=now)
        if not granted:
            return 0, now
        known = {(r.key, r.affiliate_id): r for r in await uow.sharing.holders(sorted({_key(g) for g in granted}))}
        holders = {
            place: self._holder(g, known.get(place), now)
            for g in granted
            if (place := (_key(g), g.affiliate_id)) not in known or known[place].notice is not None
        }
        shares = []
        for one in granted:
            place = (_key(one), one.affiliate_id)
            shares.append(_Share(one, self._row(one, holders.get(place) or known[place], now)))
        new = await uow.sharing.add_shares([s.row for s in shares])
        made = shares if len(new) == len(shares) else [s for s in shares if s.row.key in new]
        changed: dict[tuple[ConsentKey, str], Holder] = {}
        for share in made:
            place = (share.row.consent_key, share.granted.affiliate_id)
            holder = changed.get(place) or holders.get(place) or known[place]
            if self._is_new_to(holder, share.row) or (place in holders and place not in changed):
                changed[place] = self._with_share(holder, share.row)
        await uow.sharing.write_holders(list(changed.values()))
        references = {place: r.reference for place, r in {**known, **holders}.items()}
        teller = ShareTeller(self._pseudonyms)
        shared = [
            teller.affiliates_event(s.granted, s.row, references[s.row.consent_key, s.granted.affiliate_id])
            for s in made
        ]
        await uow.outbox.append([*shared, *(teller.partners_event(s.granted, s.row) for s in made)])
        return len(made), now

    def _holder(self, granted: Granted, before: Holder | None, now: datetime) -> Holder:
        affiliate, key = granted.affiliate_id, _key(granted)
        number = 1 if before is None else before.round + 1
        named = f"{key[0]}/{key[1]}/{number}"
        return Holder(
            key=key,
            customer_id=granted.customer_id,
            affiliate_id=affiliate,
            round=number,
            reference=self._pseudonyms.name(affiliate, Named.CONSENT, named),
            key_ids=(self._pseudonyms.key_id,),
            since=now,
            uses=(),
        )

    def _is_new_to(self, holder: Holder, row: ShareRow) -> bool:
        """True where a share has a key or a use that its holder's row does not name yet."""
        return self._pseudonyms.key_id not in holder.key_ids or any(use not in holder.uses for use in row.uses)

    def _with_share(self, holder: Holder, row: ShareRow) -> Holder:
        """With the key that names the customer in a share, and the uses that it is for."""
        keys = holder.key_ids
        return replace(
            holder,
            key_ids=keys if self._pseudonyms.key_id in keys else (*keys, self._pseudonyms.key_id),
            uses=tuple(sorted({*holder.uses, *row.uses})),
        )

    def _row(self, granted: Granted, holder: Holder, now: datetime) -> ShareRow:
        payment, affiliate = granted.payment, granted.affiliate_id
        named = f"{payment.partner_id}/{payment.payment_id}"
        return ShareRow(
            key=(payment.partner_id, payment.payment_id, affiliate),
            consent_key=payment.consent_key,
            consent_version=granted.consent_version,
            round=holder.round,
            share_id=self._pseudonyms.name(affiliate, Named.PAYMENT, named),
            key_id=self._pseudonyms.key_id,
            uses=granted.allowed.names,
            fields=granted.allowed.fields,
            use_until=granted.use_until,
            shared_at=now,
        )

    async def _tell_erasures(self, uow: SharingUnit, keys: Sequence[ConsentKey]) -> int:
        """Send the notices that consents' changes ask for; the consents are locked here where they are not yet."""
        if not keys:
            return 0
        consents = await uow.consents.lock(sorted(set(keys)))
        # After the locks, as the clock: shares are decided under them too, of the approvals as they were then.
        approved = await uow.sharing.approved()
        now = self._clock.now()
        noticed = []
        for holder in await uow.sharing.holders(sorted(set(keys))):
            cause = None if holder.notice else erase_cause(holder, consents.get(holder.key), approved, now)
            if cause is not None:
                notice_id = uuid5(_NOTICES, f"{holder.affiliate_id}/{holder.reference}")
                notice = Notice(notice_id, cause, now, now + self._settings.erase_within)
                noticed.append((replace(holder, notice=notice), notice))
        await uow.sharing.write_holders([r for r, _ in noticed])
        await uow.outbox.append([notice_event(r, notice, self._pseudonyms) for r, notice in noticed])
        return len(noticed)


def _key(granted: Granted) -> ConsentKey:
    return granted.payment.consent_key
