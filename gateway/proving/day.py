"""The demo's day: what partners and customers do, one scene after the other, while the networks misbehave."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from gateway.app.registries import open_consent_changes
from gateway.consents.changing import change_consent_status
from gateway.consents.rules.consent import ConsentCommand
from gateway.proving.handing import publish_aggregates, until_shared
from gateway.proving.traffic.cast import STORY, Role
from gateway.proving.traffic.forgeries import Forger, parked
from gateway.proving.traffic.leaving import Leaving, Left
from gateway.proving.traffic.mix import Planned, Wave
from gateway.proving.traffic.sending import Sender
from gateway.proving.traffic.story import Step, Teller
from gateway.proving.world.networks import ANSWER_TIMEOUT_S
from gateway.proving.world.receiving import Receiving
from gateway.proving.world.watching import Watch
from gateway.proving.world.world import World
from gateway.views.wording import counted
from schemas.events import CancellationEffect

SENDING_SECONDS: Final = 12.0
"""How long the main part takes to send: long enough to watch, short enough to wait for."""

PER_SECOND_MIN: Final = 100.0
PER_SECOND_MAX: Final = 800.0
"""Below what two cores carry, so that latencies are the gateway's and not a queue's."""

STALLED_S: Final = 45.0
"""No news for this long: what has not ended will not. Longer than every repeat and time-out of the run's networks."""

_POLL_S: Final = 0.05
_WAVE_S: Final = 20.0
_FIRST_PART: Final = 0.6
"""Share of the main part that is sent before the network falls silent."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How far a run is. ``ended``: results told; ``settled``: cleared too."""

    orders: int
    sent: int
    ended: int
    settled: int
    in_doubt: int


class View(Protocol):
    """Shows a run to whoever watches."""

    def step(self, title: str) -> AbstractContextManager[None]:
        """A step runs, for as long as the block lasts."""

    def scene(self, text: str) -> None:
        """Something begins that is worth a sentence."""

    def counts(self, counts: Counts) -> None:
        """The run went on; called about 20 times a second."""

    def running(self, world: World) -> None:
        """Everything is up."""


class Day:
    """The scenes, one after the other.

    Attributes:
        per_second: results a second while the first part was sent.
        seconds: how long parts of it took.
        story: the steps of whose life was played.
        left: the consent that was revoked while everything under it was asked for.
    """

    def __init__(
        self,
        world: World,
        watch: Watch,
        sender: Sender,
        planned: list[Planned],
        view: View,
        receiving: Receiving,
    ) -> None:
        self._world = world
        self._watch = watch
        self._sender = sender
        self._waves: dict[Wave, list[Planned]] = {w: [p for p in planned if p.wave is w] for w in Wave}
        self._orders = len(planned)
        self._view = view
        self._receiving = receiving
        self._per_second = min(PER_SECOND_MAX, max(PER_SECOND_MIN, len(self._waves[Wave.MAIN]) / SENDING_SECONDS))
        self.per_second = 0.0
        self.seconds: dict[str, float] = {}
        self.story: list[Step] = []
        self.left: Left | None = None

    async def play(self) -> None:
        """Play all of it; returns once nothing is open any more."""
        began = time.monotonic()
        main = self._waves[Wave.MAIN]
        middle = int(len(main) * _FIRST_PART)
        self._view.scene("The first order")
        await self._send(main[:1])
        await self._until(self._all_ended)
        self.seconds["first order"] = time.monotonic() - began
        self._view.scene(f"Partners send {self._per_second:.0f} orders a second, good ones and others")
        first = time.monotonic()
        await self._send(main[1:middle])
        await self._until(self._all_ended)
        self.per_second = (middle - 1) / (time.monotonic() - first)
        await self._tell_story()
        await self._silence()
        self._view.scene("The network answers again: what is in doubt is asked about, or reversed; then orders go on")
        # While the circuit breaker still doubts the network, good orders may rightly be turned away unsent.
        await self._until(self._all_ended)
        await self._send(main[middle:])
        await self._revoke()
        await self._until(self._all_ended)
        await self._take_back()
        await self._forge()
        self.seconds["orders"] = time.monotonic() - first
        await self._clear()
        await self._leave()

    async def _tell_story(self) -> None:
        customers = [c for role in STORY for c in self._world.cast.of(role)]
        self._view.scene("A customer of each group grants a consent, pays, reaches its limit, revokes it")
        teller = Teller(self._world.cast, self._sender, self._watch, self._send, self._until)
        orders = self._waves[Wave.STORY]
        told = await asyncio.gather(
            *(teller.tell(c, [p for p in orders if p.consent_id == c.terms.consent_id]) for c in customers)
        )
        self.story = [step for steps in told for step in steps]
        thief = customers[0]
        self._view.scene("A partner asks for a consent of its customer over another customer's card")
        victim = next(c for c in self._world.cast.of(Role.PLAIN) if c.terms.partner_id == thief.terms.partner_id)
        self.story += await teller.steal(thief, victim)

    async def _silence(self) -> None:
        """Three kinds of no answer, one after the other; each wave is swallowed whole before the next begins."""
        late_ms = round(1000 * ANSWER_TIMEOUT_S * 1.5)
        self._view.scene("The network answers too late")
        await self._faults(late=1.0, late_ms=late_ms, classes=["financial"])
        await self._send_and_swallow(Wave.LATE, "fault_late")
        self._view.scene("The network falls silent: first it loses what it gets, then it books it")
        swallowed = await self._counted("fault_silence")
        await self._faults(silence="ignore", classes=["financial", "reversal", "inquiry"])
        await self._send_and_swallow(Wave.SILENT_LOST, "fault_silence")
        await self._faults(silence="apply")
        await self._send_and_swallow(Wave.SILENT_BOOKED, "fault_silence")
        doubtful = sum(len(self._waves[w]) for w in (Wave.LATE, Wave.SILENT_LOST, Wave.SILENT_BOOKED))
        await self._until(lambda: len(self._watch.been_unknown) >= doubtful, patience_s=_WAVE_S)
        # Until a reversal has gone unanswered too, so that it has to be repeated.
        silent = len(self._waves[Wave.SILENT_LOST]) + len(self._waves[Wave.SILENT_BOOKED])
        await self._until_counted("fault_silence", swallowed + silent + 1)
        await asyncio.gather(*(n.clear_faults() for n in self._world.networks))

    async def _send_and_swallow(self, wave: Wave, counter: str) -> None:
        before = await self._counted(counter)
        await self._send(self._waves[wave])
        await self._until_counted(counter, before + len(self._waves[wave]))

    async def _until_counted(self, counter: str, wanted: int) -> None:
        deadline = time.monotonic() + _WAVE_S
        while await self._counted(counter) < wanted and time.monotonic() < deadline:
            self._world.check()
            self._tick()
            await asyncio.sleep(_POLL_S)

    async def _counted(self, counter: str) -> int:
        states = await asyncio.gather(*(n.state() for n in self._world.networks))
        return sum(int(s["counters"].get(counter, 0)) for s in states)

    async def _faults(self, **faults: object) -> None:
        await asyncio.gather(*(n.set_faults(**faults) for n in self._world.networks))

    async def _revoke(self) -> None:
        customers = self._world.cast.of(Role.REVOKED)
        self._view.scene(
            f"Customers revoke {counted(len(customers), 'consent')}; orders under what was revoked still come"
        )
        async with open_consent_changes(self._world.postgres_dsn) as store:
            for customer in customers:
                key = (customer.terms.partner_id, customer.terms.consent_id)
                await change_consent_status(store, _Clock(), key, ConsentCommand.REVOKE)
        await self._send(self._waves[Wave.REVOKED])

    async def _take_back(self) -> None:
        self._view.scene("Partners cancel orders before and after they are paid, and give money back")
        returned = self._waves[Wave.RETURNED]
        early, paid = ([p for p in returned if p.kind == kind] for kind in ("cancelled_first", "cancelled"))
        await self._sender.cancel(early, answer=CancellationEffect.NOT_SENT)
        await self._until(self._all_answered)
        await self._send([*early, *paid])
        await self._until(self._all_ended)
        await self._sender.cancel(paid, answer=CancellationEffect.REVERSING)
        await self._send([p for p in returned if p.refund_of is not None])
        await self._until(lambda: self._all_answered() and self._all_ended())

    async def _forge(self) -> None:
        self._view.scene("Somebody who can write to execution's topic orders payments in the gateway's name")
        written = await Forger(self._world).forge(datetime.now(UTC))
        refused = await parked(self._world, written, self._tick)
        self.story.append(
            Step(
                "Forged: somebody at Kafka, in the gateway's name",
                "forge",
                f"{written} orders of 880000 KRW for execution: copied marks, unknown keys, invented proofs",
                "none: parked for operators, paid by nobody" if refused else "nothing",
                refused,
            )
        )

    async def _clear(self) -> None:
        began = time.monotonic()
        self._view.scene("The network closes its day and sends its clearing file")
        await self._close_cycle()
        await self._until(lambda: self._watch.by_state["approved"] == 0)
        self.seconds["clearing"] = time.monotonic() - began

    async def _close_cycle(self) -> None:
        await asyncio.gather(*(n.close_cycle() for n in self._world.networks))

    async def _leave(self) -> None:
        """What customers permit besides is done as they pay and settle; and one of them ends all of it."""
        began = time.monotonic()
        self._view.scene(
            "A customer's data goes where it may: exported, shared, offers; then the customer revokes it all"
        )
        leaving = Leaving(
            self._world.cast,
            self._world.cast.of(Role.LEAVER)[0],
            dsn=self._world.postgres_dsn,
            sender=self._sender,
            watch=self._watch,
            receiving=self._receiving,
            send=self._send,
            until=self._until,
        )
        self.left = await leaving.play(self._waves[Wave.LEAVING], self._close_cycle)
        self.story += self.left.steps
        await self._until(self._all_ended)
        await self._close_cycle()
        await self._until(lambda: self._watch.by_state["approved"] == 0)
        self._view.scene("Both groups are told what their customers spent, where enough of them did")
        await publish_aggregates(self._world, self._receiving)
        await until_shared(self._world.postgres_dsn)
        self.seconds["leaving"] = time.monotonic() - began

    async def _send(self, planned: list[Planned]) -> None:
        await self._sender.send(planned, per_second=self._per_second, tick=self._tick)

    def _all_answered(self) -> bool:
        return len(self._watch.cancellations) >= len(self._sender.cancelled)

    def _all_ended(self) -> bool:
        return self._watch.ended >= len(self._sender.produced)

    async def _until(self, holds: Callable[[], bool], *, patience_s: float = STALLED_S) -> bool:
        """Wait until it holds; False once there was no news for ``patience_s``."""
        news, since = self._news(), time.monotonic()
        while not holds():
            self._world.check()
            self._watch.check()
            self._receiving.check()
            if (now := self._news()) != news:
                news, since = now, time.monotonic()
            if time.monotonic() - since > patience_s:
                return False
            self._tick()
            await asyncio.sleep(_POLL_S)
        self._tick()
        return True

    def _news(self) -> tuple[object, ...]:
        told = self._watch.ended, len(self._watch.cancellations), dict(self._watch.by_state)
        return (*told, self._receiving.news)

    def _tick(self) -> None:
        states = self._watch.by_state
        doubtful = states["unknown"] + states["reversing"]
        sent = len(self._sender.produced)
        self._view.counts(Counts(self._orders, sent, self._watch.ended, states["settled"], doubtful))


class _Clock:
    """Implements :class:`gateway.base.process.Clock`."""

    def now(self) -> datetime:
        return datetime.now(UTC)
