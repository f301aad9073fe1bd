"""Affiliates' signed confirmations that they have erased; and the alarm where one does not come."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from gateway.base.errors import NotAuthenticatedError
from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.database.unit import Store
from gateway.identity.door import Authentic, Door
from gateway.identity.parking import park_nobodys
from gateway.identity.signing import KeySource, SignatureVerifier
from gateway.identity.vouching import Vouching
from gateway.messaging.records import DeadLetters, Record
from gateway.sharing.store import SharingStoreUnit
from schemas.reasons import Reason, ReasonCode
from schemas.sharing import ERASURE_TYPE, ErasureConfirmed

MODELS: Final[Mapping[str, type[ErasureConfirmed]]] = {ERASURE_TYPE: ErasureConfirmed}

_UNKNOWN: Final = Reason(code=ReasonCode.FF01, text="notice_id names no notice that this affiliate was sent")


class ErasureService:
    """Takes in affiliates' confirmations.

    Args:
        keys, verifier: of affiliates, as partners' are.
    """

    def __init__(
        self,
        *,
        store: Store[SharingStoreUnit],
        keys: KeySource,
        verifier: SignatureVerifier,
        dead_letters: DeadLetters,
        observer: Observer,
        clock: Clock,
    ) -> None:
        self._store = store
        self._keys = keys
        self._verifier = verifier
        self._door: Door[ErasureConfirmed] = Door(verifier=verifier, models=MODELS)
        self._dead_letters = dead_letters
        self._observer = observer
        self._clock = clock

    async def take(self, records: Sequence[Record]) -> None:
        """Bring every record to its end: its notice is confirmed, or it is a dead letter. Then commit offsets."""
        started = asyncio.get_running_loop().time()
        good, parked = await self._door.read_or_park(records, self._clock.now(), self._keys)
        if good:
            vouching = Vouching(self._verifier, self._clock)
            strangers = await until_done(lambda: self._confirm(good, vouching))
            parked += [(one.record, NotAuthenticatedError(_UNKNOWN)) for one in strangers]
            parked += vouching.lapsed
        await park_nobodys(self._dead_letters, self._observer, "sharing", parked)
        self._observer.batch("sharing", size=len(records), seconds=asyncio.get_running_loop().time() - started)

    async def _confirm(
        self, good: Sequence[Authentic[ErasureConfirmed]], vouching: Vouching
    ) -> list[Authentic[ErasureConfirmed]]:
        """Confirm what is the signer's own; return what is not. A confirmation that comes again changes nothing."""
        async with self._store.transaction() as uow:
            held = await uow.sharing.lock_notices(sorted({one.message.notice_id for one in good}))
            confirmed: dict[object, tuple[Authentic[ErasureConfirmed], int]] = {}
            strangers = []
            # A key may have been disabled while it waited for the locks, or for the database.
            for one in filter(vouching, good):
                message = one.message
                holder = held.get(message.notice_id)
                if holder is None or holder.affiliate_id != message.affiliate_id:
                    strangers.append(one)
                elif holder.confirmed_at is None:
                    confirmed.setdefault(message.notice_id, (one, message.erased))
            now = self._clock.now()
            await uow.sharing.confirm(
                [(one.message.notice_id, one.reference, erased) for one, erased in confirmed.values()], now=now
            )
        self._observer.count("sharing", "erased", n=len(confirmed))
        return strangers


class OverdueErasures:
    """Raises the alarm where affiliates have not confirmed in time that they erased."""

    def __init__(self, *, store: Store[SharingStoreUnit], observer: Observer, clock: Clock) -> None:
        self._store = store
        self._observer = observer
        self._clock = clock

    async def look(self) -> int:
        """Tell how many notices are overdue; return 0: there is nothing to go on with."""
        now = self._clock.now()

        async def read():  # type: ignore[no-untyped-def]
            async with self._store.reading() as uow:
                return await uow.sharing.overdue(now)

        late, since = await until_done(read)
        age = 0.0 if since is None else (now - since).total_seconds()
        self._observer.level("erasures_overdue", float(late))
        self._observer.level("erasure_overdue_oldest_seconds", age)
        if late:
            self._observer.note("erasures_overdue", level="error", count=late, seconds=age)
        return 0
