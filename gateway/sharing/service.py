"""Sharing: what is settled and what changed of consents → shares and erase notices, a batch in one transaction.

The stage reads the outbox behind a place of its own, so a payment's own transactions know nothing of it. Within one
transaction the place moves on, the consents are locked and judged, and what follows is written and told: a crash at any
moment leaves all of it or nothing, and two workers at once cannot both move the place.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid5

from msgspec import Struct
from msgspec.structs import replace

from gateway.base.keys import ConsentKey
from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.consents.ended_watch import EndedConsentWatch
from gateway.consents.rules.consent import Consent
from gateway.database.unit import Store
from gateway.outbox.store import OutboxEvent
from gateway.sealing.sealing import NoMasterKeyError
from gateway.sharing.pseudonyms import Named, Pseudonyms
from gateway.sharing.rules.deciding import Granted, decide_shares, erase_cause
from gateway.sharing.rules.records import Approval, Holder, Notice, SettledPayment, ShareRow
from gateway.sharing.store import SharingUnit
from gateway.sharing.telling import ShareTeller, notice_event
from schemas.consents import SharingField

_NOTICES = UUID("5f6d7970-6179-4d65-9d65-6572617365ff")

_KEPT_NAMES_MAX: Final = 100_000
"""Names of customers that are kept in memory, about 250 bytes each: those who pay again and again."""


@dataclass(frozen=True, slots=True)
class SharingSettings:
    """Bounds of sharing; each has its reason.

    Attributes:
        batch: events looked at in one transaction; a larger one holds consents' locks for longer, and whoever ends a
            consent waits for them: tens of milliseconds, as it is.
        erase_within: how long an affiliate has to confirm that it has erased.
    """

    batch: int = 4000
    erase_within: timedelta = timedelta(days=7)


_Place = tuple[ConsentKey, str]
"""A consent and an affiliate: where there is a holder."""


class _Share(Struct, frozen=True, gc=False):
    granted: Granted
    place: _Place
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
        # Under the newest key, which a process does not change.
        self._customers: dict[tuple[str, str], str] = {}

    async def share(self) -> int:
        """Deal with one batch of what happened; return 0 if nothing did, the batch's bound if more may wait."""
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
                # Nothing is shared meanwhile: no share may come behind its erase notice.
                await uow.sharing.take_turn()
                return await self._tell_erasures(uow, keys, await self._hold(uow, set(keys)))

        told = await until_done(tell) if keys else 0
        self._observer.count("sharing", "erase_notice", n=told)
        return told

    async def remind(self) -> int:
        """Send notices again where somebody asked for it; return how many were asked for: one may not be possible."""

        async def tell() -> tuple[int, int]:
            now = self._clock.now()
            async with self._store.transaction() as uow:
                due = await uow.sharing.take_reminders(self._settings.batch)
                made = [self._reminder(holder, number, now) for holder, number in due]
                events = [e for e in made if e is not None]
                await uow.outbox.append(events)
                return len(due), len(events)

        asked, told = await until_done(tell)
        self._observer.count("sharing", "erase_reminder", n=told)
        return asked

    def _reminder(self, holder: Holder, number: int, now: datetime) -> OutboxEvent | None:
        if holder.notice is None:
            raise AssertionError("a holder is reminded of a notice")
        return self._notice_event(holder, holder.notice, reminder=number, at=now)

    def _notice_event(
        self, holder: Holder, notice: Notice, *, reminder: int = 0, at: datetime | None = None
    ) -> OutboxEvent | None:
        """None where the key that named the customer is gone: nobody can say any more whom the affiliate should erase.

        People are told, and others' notices are not held up. It can be told again once the key is back.
        """
        try:
            return notice_event(holder, notice, self._pseudonyms, reminder=reminder, at=at)
        except NoMasterKeyError:
            what = "erase_reminder_not_possible" if reminder else "erase_notice_not_possible"
            self._observer.note(what, level="error", reference=str(notice.notice_id), reason="NoMasterKeyError")
            self._observer.count("sharing", "incident", reason="key_gone")
            return None

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
                consents = await self._hold(uow, {*page.changed, *(p.consent_key for p in page.settled)})
                # Before anything is shared: what is permitted anew belongs to a new round.
                told = await self._tell_erasures(uow, page.changed, consents)
                if page.settled:
                    shared, decided_at = await self._share(uow, page.settled, consents)
        if self._watch is not None and decided_at is not None and shared:
            self._watch.intended([p.consent_key for p in page.settled], decided_at)
        if page.settled or page.changed:
            seconds = asyncio.get_running_loop().time() - started
            self._observer.batch("sharing", size=len(page.settled), seconds=seconds)
            self._observer.count("sharing", "shared", n=shared)
            self._observer.count("sharing", "erase_notice", n=told)
        return self._settings.batch if page.is_full else 1

    @staticmethod
    async def _hold(uow: SharingUnit, keys: Collection[ConsentKey]) -> Mapping[ConsentKey, Consent]:
        """The consents as they are until the transaction ends, in key order: one order for all that lock.

        Payments go on beside this; who changes a consent waits, or is waited for. What sharing itself writes under one
        is kept apart by the place, which every transaction of sharing holds.
        """
        return await uow.consents.hold(sorted(keys))

    async def _share(
        self, uow: SharingUnit, settled: Sequence[SettledPayment], consents: Mapping[ConsentKey, Consent]
    ) -> tuple[int, datetime]:
        """Under the locks of the consents; returns how many shares it were, and when they were decided."""
        # After the locks: what ended before them has ended.
        now = self._clock.now()
        approvals: dict[str, list[Approval]] = defaultdict(list)
        for approval in await uow.sharing.approvals():
            approvals[approval.affiliate_id].append(approval)
        granted = decide_shares(settled, consents=consents, approvals=approvals, now=now)
        if not granted:
            return 0, now
        granted = await self._with_tokens(uow, granted)
        known = {
            (r.key, r.affiliate_id): r for r in await uow.sharing.holders(sorted({g.consent_key for g in granted}))
        }
        holders: dict[_Place, Holder] = {}
        shares = []
        for one in granted:
            place = (one.consent_key, one.affiliate_id)
            holder = holders.get(place)
            if holder is None:
                holder = known.get(place)
                if holder is None or holder.notice is not None:
                    holder = self._holder(one, holder, now)
                holders[place] = holder
            shares.append(_Share(one, place, self._row(one, holder, now)))
        new = await uow.sharing.add_shares([s.row for s in shares])
        made = shares if len(new) == len(shares) else [s for s in shares if s.row.key in new]
        changed: dict[_Place, Holder] = {}
        for share in made:
            holder = holders[share.place]
            if self._is_new_to(holder, share.row):
                changed[share.place] = holders[share.place] = self._with_share(holder, share.row)
        await uow.sharing.write_holders(list(changed.values()))
        if len(self._customers) > _KEPT_NAMES_MAX:
            self._customers.clear()
        teller = ShareTeller(self._pseudonyms, self._customers)
        shared = [teller.affiliates_event(s.granted, s.row, holders[s.place].reference) for s in made]
        events = [*shared, *(teller.partners_event(s.granted, s.row) for s in made)]
        if await uow.sharing.bundles_are_read():
            await uow.outbox.append_bundled(events)
        else:
            await uow.outbox.append(events)
        return len(made), now

    @staticmethod
    async def _with_tokens(uow: SharingUnit, granted: list[Granted]) -> list[Granted]:
        """With the token of each payment of which somebody may have a name of it; few may, and no event tells it."""
        asked = {g.payment.key: None for g in granted if SharingField.TOKEN in g.allowed.fields}
        if not asked:
            return granted
        tokens = await uow.sharing.tokens(list(asked))
        return [
            replace(g, payment=replace(g.payment, funding_token=token))
            if SharingField.TOKEN in g.allowed.fields and (token := tokens.get(g.payment.key)) is not None
            else g
            for g in granted
        ]

    def _holder(self, granted: Granted, before: Holder | None, now: datetime) -> Holder:
        affiliate, key = granted.affiliate_id, granted.consent_key
        number = 1 if before is None else before.round + 1
        return Holder(
            key=key,
            customer_id=granted.customer_id,
            affiliate_id=affiliate,
            round=number,
            reference=self._pseudonyms.name_of_round(affiliate, key, number),
            key_ids=(self._pseudonyms.key_id,),
            since=now,
            uses=(),
        )

    def _is_new_to(self, holder: Holder, row: ShareRow) -> bool:
        """True where a share has a key, a use or a field that its holder's row does not name yet."""
        if self._pseudonyms.key_id not in holder.key_ids:
            return True
        return any(
            new != held and not set(held).issuperset(new)
            for new, held in ((row.uses, holder.uses), (row.fields, holder.fields))
        )

    def _with_share(self, holder: Holder, row: ShareRow) -> Holder:
        """With the key that names the customer in a share, the uses that it is for, and what is in it."""
        keys = holder.key_ids
        return replace(
            holder,
            key_ids=keys if self._pseudonyms.key_id in keys else (*keys, self._pseudonyms.key_id),
            uses=tuple(sorted({*holder.uses, *row.uses})),
            fields=tuple(sorted({*holder.fields, *row.fields})),
        )

    def _row(self, granted: Granted, holder: Holder, now: datetime) -> ShareRow:
        payment, affiliate = granted.payment, granted.affiliate_id
        named = f"{payment.partner_id}/{payment.payment_id}"
        return ShareRow(
            key=(payment.partner_id, payment.payment_id, affiliate),
            consent_key=granted.consent_key,
            consent_version=granted.consent_version,
            round=holder.round,
            share_id=self._pseudonyms.name(affiliate, Named.PAYMENT, named),
            key_id=self._pseudonyms.key_id,
            uses=granted.allowed.names,
            fields=granted.allowed.fields,
            use_until=granted.use_until,
            shared_at=now,
        )

    async def _tell_erasures(
        self, uow: SharingUnit, keys: Sequence[ConsentKey], consents: Mapping[ConsentKey, Consent]
    ) -> int:
        """Send the notices that consents' changes ask for; the consents are held."""
        if not keys:
            return 0
        # After the locks, as the clock: shares are decided under them too, of the approvals as they were then.
        approved = await uow.sharing.approved()
        now = self._clock.now()
        noticed = []
        looked_at = sorted(set(keys))
        ended = await uow.sharing.ended(looked_at)
        for holder in await uow.sharing.holders(looked_at):
            consent, ended_at = consents.get(holder.key), ended.get(holder.key)
            cause = None if holder.notice else erase_cause(holder, consent, approved, now, ended_at)
            if cause is not None:
                notice_id = uuid5(_NOTICES, f"{holder.affiliate_id}/{holder.reference}")
                notice = Notice(notice_id, cause, now, now + self._settings.erase_within)
                noticed.append((replace(holder, notice=notice), notice))
        await uow.sharing.write_holders([r for r, _ in noticed])
        events = [event for r, notice in noticed if (event := self._notice_event(r, notice)) is not None]
        await uow.outbox.append(events)
        return len(events)
