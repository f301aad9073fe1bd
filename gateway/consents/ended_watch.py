"""How late anything still happens under a consent that was revoked or has expired: measured wherever one is used.

``revoke_to_last_use``: from the end's moment to that of the last use (an intent to pay, a share, an offer or its use, a
whole export, an answer through the API), both read under the consent's lock: never above zero, as far as two machines'
clocks agree. ``revoke_to_wire``: from the end's moment to the last byte that was handed to the network: at most the
bound from intent to wire; ``revoke_to_last_export``: the same of chunks of exports. A use costs an entry in a list that
is kept for seconds.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, Final

from gateway.base.keys import ConsentKey
from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.consents.store import ConsentUnit
from gateway.database.unit import Store
from schemas.consents import Purpose

LOOK_S: Final = 1.0
KEPT_S: Final = 5.0
"""How long what was done is kept before the last look: longer than an end's transaction takes from lock to commit."""

_NO_TIME: Final = timedelta(0)


@dataclass(slots=True)
class _Ended:
    ended_at: datetime
    last_intent: datetime | None = None
    last_wire: datetime | None = None


class EndedConsentWatch:
    """Compares one worker's uses of consents with the ends of these: when they were decided, and when they left.

    Args:
        settle_s: how long after an end its last result may come: the bound from intent to wire and the answer's time.
    """

    PURPOSE: ClassVar = Purpose.PAYMENT
    STAGE: ClassVar = "execution"
    USE: ClassVar = "intent"

    def __init__(
        self,
        *,
        store: Store[ConsentUnit],
        observer: Observer,
        clock: Clock,
        settle_s: float,
    ) -> None:
        self._store = store
        self._observer = observer
        self._clock = clock
        self._settle = timedelta(seconds=settle_s + KEPT_S)
        self._intents: deque[tuple[datetime, datetime, Sequence[ConsentKey]]] = deque()
        self._wires: deque[tuple[datetime, Sequence[tuple[ConsentKey, datetime]]]] = deque()
        self._ended: dict[ConsentKey, _Ended] = {}
        self._looked_at = clock.now()
        self._latest_intent: timedelta | None = None

    def intended(self, keys: Sequence[ConsentKey], decided_at: datetime) -> None:
        """Uses of one batch have committed; the moment was read under the consents' locks."""
        self._intents.append((self._clock.now(), decided_at, keys))

    def sent(self, sent: Iterable[tuple[ConsentKey, float | None]]) -> None:
        """Something was handed over at these times of ``loop.time()``; None: nothing of it left."""
        now, loop_now = self._clock.now(), asyncio.get_running_loop().time()
        self._wires.append((now, [(k, now - timedelta(seconds=loop_now - at)) for k, at in sent if at is not None]))

    async def look(self) -> None:
        """Read which consents ended, compare, and report those about which nothing more can come."""
        now = self._clock.now()
        since = self._looked_at - timedelta(seconds=KEPT_S)
        due = [k for k, e in self._ended.items() if e.ended_at <= now - self._settle]

        async def read():  # type: ignore[no-untyped-def]
            async with self._store.reading() as uow:
                return await uow.consents.ended_since(since, self.PURPOSE), await uow.consents.read(due) if due else {}

        ended, of_due = await until_done(read)
        for key, ended_at in ended.items():
            self._ended.setdefault(key, _Ended(ended_at))
        if self._ended:
            self._compare()
        self._forget(since)
        self._looked_at = now
        for key in due:
            one = self._ended.pop(key)
            # A purpose that the customer has granted again since: what was done under it is no late use.
            if (consent := of_due.get(key)) is None or self.PURPOSE not in consent.purposes:
                self._report(key, one)

    def _compare(self) -> None:
        for _, decided_at, keys in self._intents:
            for key in keys:
                if (ended := self._ended.get(key)) is not None:
                    ended.last_intent = max(decided_at, ended.last_intent or decided_at)
        for _, wires in self._wires:
            for key, at in wires:
                if (ended := self._ended.get(key)) is not None:
                    ended.last_wire = max(at, ended.last_wire or at)

    def _forget(self, since: datetime) -> None:
        while self._intents and self._intents[0][0] < since:
            self._intents.popleft()
        while self._wires and self._wires[0][0] < since:
            self._wires.popleft()

    def _report(self, key: ConsentKey, ended: _Ended) -> None:
        if ended.last_intent is not None:
            late = ended.last_intent - ended.ended_at
            self._latest_intent = max(late, self._latest_intent or late)
            # The highest since the process began.
            self._observer.level("revoke_to_last_use_seconds", self._latest_intent.total_seconds(), use=self.USE)
            if late > _NO_TIME:
                self._observer.count(self.STAGE, f"{self.USE}_after_end")
                self._observer.note(
                    f"{self.USE}_after_end",
                    level="error",
                    partner_id=key[0],
                    consent_id=key[1],
                    seconds=late.total_seconds(),
                )
        if ended.last_wire is not None:
            late = max(ended.last_wire - ended.ended_at, _NO_TIME)
            self._left_late(late.total_seconds())

    def _left_late(self, seconds: float) -> None:
        self._observer.delay("revoke_to_wire", seconds)


class EndedSharingWatch(EndedConsentWatch):
    """The same of shares, which are decided under the consents' locks as intents are, and leave with the relay."""

    PURPOSE = Purpose.SHARING
    STAGE = "sharing"
    USE = "share"


class EndedMarketingWatch(EndedConsentWatch):
    """The same of offers, and of their uses."""

    PURPOSE = Purpose.MARKETING
    STAGE = "marketing"
    USE = "offer"


class EndedPortabilityWatch(EndedConsentWatch):
    """The same of exports: a whole one is decided under the lock, its chunks leave before that."""

    PURPOSE = Purpose.PORTABILITY
    STAGE = "portability"
    USE = "export"

    def _left_late(self, seconds: float) -> None:
        self._observer.delay("revoke_to_last_export", seconds)


class EndedPullWatch(EndedConsentWatch):
    """The same of answers through the API."""

    PURPOSE = Purpose.PORTABILITY
    STAGE = "portability_api"
    USE = "pull"
