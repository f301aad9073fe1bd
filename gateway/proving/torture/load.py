"""The load of a torture run: the demo's mix at a steady rate.

Meanwhile consents are revoked, orders cancelled, payments refunded, and clearing cycles closed.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Container, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import Random
from typing import Any, Final

import aiohttp
import asyncpg

from gateway.client import signed
from gateway.proving.books import Ending, OrderFacts, Produced
from gateway.proving.traffic.cast import STORY, Cast, Customer, Role
from gateway.proving.traffic.mix import PAID, Planned, Wave
from gateway.proving.traffic.sending import Sender
from gateway.proving.traffic.story import asked_for, granted, with_card_of
from gateway.proving.world.world import World
from schemas.consent_commands import CONSENT_REVOKE_TYPE, ConsentInstruction
from schemas.events import CancellationEffect

CYCLE_EVERY_S: Final = 9.0
"""Between two closings of each network's clearing cycle: several in a run of a minute."""

_RACING: Final = 8
"""Orders under a consent that are sent around its revocation."""

_POLL_S: Final = 0.3
_RACE_S: Final = 4.0
"""How long those are sent; the command comes in the middle."""

_AFTER_PER_SECOND: Final = 10.0

_CANCEL_S: Final = (0.0, 4.0)
"""From an order to its cancellation: while it waits, is in flight, in doubt, approved, or cleared."""

_REFUND_S: Final = (0.5, 15.0)
"""From an order to its refunds, all at once: two that fit, and one over what they leave."""

_PAID_OR_UNDONE: Final = frozenset((Ending.SETTLED, Ending.REVERSED, Ending.REJECTED))
"""What a good order may come to while everything fails: paid, undone, or turned away before anything left."""

_LIMITED: Final = (Role.DAY_AMOUNT, Role.DAY_COUNT, Role.SINGLE_USE, Role.EXEMPT)

_DEPENDING: Final = frozenset(
    (
        "over_day_amount",
        "over_day_count",
        "used_up",
        "exempt_used_up",
        "proof_replayed",
        "id_reused",
        "refund_over",
    )
)
"""Kinds that are refused for what came before: they fit where that was undone, turned away, or slower elsewhere."""


HEED_TIMEOUT_S: Final = 300.0
"""What was told to Kafka takes effect within this, whatever else fails: twenty times what it takes on idle cores."""


def expected_under_faults(label: str, planned: frozenset[Ending]) -> frozenset[Ending]:
    """Return the endings that are right where everything fails, for what the mix plans in peace.

    Whatever is good may also be undone or turned away; what is refused, or no order, is so under faults too.
    """
    if label in _DEPENDING or planned & {Ending.SETTLED, Ending.REVERSED}:
        return _PAID_OR_UNDONE
    if Ending.DECLINED in planned:
        return frozenset((Ending.DECLINED, Ending.REVERSED, Ending.REJECTED))
    return planned


@dataclass(frozen=True, slots=True)
class Revocation:
    """One customer's revocation, with orders around it and after it."""

    customer: Customer
    racing: Sequence[Planned]
    after: Sequence[Planned]


@dataclass(frozen=True, slots=True)
class Theft:
    """A consent of this customer over another's card is asked for and granted; orders under it follow."""

    thief: Customer
    orders: Sequence[Planned]


@dataclass(slots=True)
class Load:
    """What is sent.

    Attributes:
        main: in its order.
        revocations: each at a time of its own.
        thefts: likewise.
        cancelled: orders that are cancelled a moment after they are sent.
        cancelled_first: orders that are cancelled before.
        refunds: place of an original in ``main`` → its refunds.
        limited: consents under which what fits depends on what became of the orders before.
        rivals: orders that compete with a later one for their id or their proof: where the network of the first is
            closed meanwhile, the second may be faster at another.
    """

    main: list[Planned]
    revocations: list[Revocation]
    cancelled: list[Planned]
    cancelled_first: list[Planned]
    refunds: dict[int, list[Planned]]
    limited: frozenset[str]
    rivals: frozenset[str]
    thefts: list[Theft] = field(default_factory=list)

    @property
    def all(self) -> list[Planned]:
        """Every record."""
        later = [p for r in self.revocations for p in (*r.racing, *r.after)]
        later += [p for t in self.thefts for p in t.orders]
        refunds = [p for each in self.refunds.values() for p in each]
        return [*self.main, *later, *self.cancelled, *self.cancelled_first, *refunds]

    def _depends(self, order: OrderFacts) -> bool:
        return order.consent_id in self.limited or order.order_id in self.rivals

    def expected(self, produced: Sequence[Produced]) -> list[Produced]:
        """The records with the endings that are right under faults."""
        racing = {p.order_id for r in self.revocations for p in r.racing}
        return [self._expected(p, racing) for p in produced]

    def _expected(self, produced: Produced, racing: Container[str]) -> Produced:
        label = produced.label
        if produced.order is not None and produced.order.order_id in racing:
            label = "racing"
        elif produced.order is not None and label in PAID and self._depends(produced.order):
            label = "limited"
        return produced._replace(expected=expected_under_faults(label, produced.expected), label=label)


def make_load(planned: Sequence[Planned], cast: Cast, seed: int) -> Load:
    """Turn the demo's plan into a load: without its story and silences, for here silence is made anew all the time."""
    random = Random(f"load/{seed}")  # noqa: S311 - reproducible on purpose
    stories = {c.terms.consent_id for role in STORY for c in cast.of(role)}
    limited = {c.terms.consent_id for role in _LIMITED for c in cast.of(role)}
    main: list[Planned] = []
    doubtful: list[Planned] = []
    for p in planned:
        if p.wave in (Wave.REVOKED, Wave.RETURNED, Wave.LEAVING) or p.consent_id in stories:
            continue
        if p.wave is Wave.MAIN:
            main.append(p)
        else:
            doubtful.append(replace(p, wave=Wave.MAIN, kind=f"paid_{p.proof}" if p.proof else "payment"))
    for p in doubtful:
        main.insert(random.randrange(len(main)), p)
    revocations = []
    for customer in cast.of(Role.REVOKED):
        after = [p for p in planned if p.wave is Wave.REVOKED and p.consent_id == customer.terms.consent_id]
        if after:
            racing = [replace(after[0], kind="payment", order_id=f"{after[0].order_id}-r{n}") for n in range(_RACING)]
            revocations.append(Revocation(customer, racing, after))
    rivals = {p.jti_of or p.order_id for p in main if p.jti_of or p.kind == "id_reused"}
    returned = [p for p in planned if p.wave is Wave.RETURNED]
    places = {p.order_id: n for n, p in enumerate(main)}
    refunds: dict[int, list[Planned]] = defaultdict(list)
    for p in returned:
        if p.refund_of is not None:
            refunds[places[p.refund_of]].append(p)
    return Load(
        main,
        revocations,
        [p for p in returned if p.kind == "cancelled"],
        [p for p in returned if p.kind == "cancelled_first"],
        dict(refunds),
        frozenset(limited),
        frozenset(rivals),
        list(_thefts(planned, cast)),
    )


def _thefts(planned: Sequence[Planned], cast: Cast) -> Iterator[Theft]:
    """The customers of the story, whom nothing else is about here, and their orders under a consent that is refused."""
    for customer in (c for role in STORY for c in cast.of(role)):
        victim = next(c for c in cast.of(Role.PLAIN) if c.terms.partner_id == customer.terms.partner_id)
        thief = with_card_of(customer, victim)
        changed: dict[str, Any] = {"consent_id": thief.terms.consent_id, "kind": "no_consent", "wave": Wave.MAIN}
        mine = (p for p in planned if p.wave is Wave.STORY and p.consent_id == customer.terms.consent_id)
        yield Theft(thief, [replace(p, **changed) for p in mine])


@dataclass(slots=True)
class Loader:
    """Sends a load into a world.

    Attributes:
        tick: called about 20 times a second while records are sent.
        revoked: revocations that were seen to hold.
        unheeded: consents that stand although their revocation was sent long ago.
        stolen: consents over another customer's card that were asked for and granted.
        cycles: clearing cycles closed.
    """

    world: World
    sender: Sender
    tick: Callable[[], None]
    revoked: int = 0
    unheeded: list[str] = field(default_factory=list)
    stolen: int = 0
    cycles: int = 0
    _number: int = field(default=0)

    async def run(self, load: Load, *, per_second: float, seed: int) -> None:
        """Send everything at a steady rate; return when all of it is on its topic."""
        seconds = len(load.main) / per_second
        random = Random(f"revocations/{seed}")  # noqa: S311 - reproducible on purpose

        def moment() -> float:
            return random.uniform(0.05, 0.75) * seconds

        cycles = asyncio.create_task(self._close_cycles(), name="cycles")
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._send(load.main, per_second), name="load")
                for revocation in load.revocations:
                    tasks.create_task(self._revoke(revocation, moment()), name="revocation")
                for theft in load.thefts:
                    tasks.create_task(self._steal(theft, moment()), name="theft")
                for order in load.cancelled:
                    tasks.create_task(self._cancel(order, moment(), random.uniform(*_CANCEL_S)), name="cancellation")
                for order in load.cancelled_first:
                    tasks.create_task(self._cancel_first(order, moment()), name="cancellation")
                for place, refunds in load.refunds.items():
                    tasks.create_task(self._refund(place, refunds, random.uniform(*_REFUND_S)), name="refund")
        finally:
            cycles.cancel()
            await asyncio.wait([cycles])

    async def _send(self, planned: Sequence[Planned], per_second: float) -> None:
        await self.sender.send(planned, per_second=per_second, tick=self.tick)

    async def _revoke(self, revocation: Revocation, at_s: float) -> None:
        await asyncio.sleep(at_s)
        partner = self.world.cast.partner(revocation.customer.terms.partner_id)
        terms = revocation.customer.terms
        self._number += 1
        message = ConsentInstruction(
            partner_id=terms.partner_id,
            consent_id=terms.consent_id,
            command_id=f"torture-{self._number}",
            issued_at=datetime.now(UTC),
        )
        racing = asyncio.create_task(self._send(revocation.racing, _RACING / _RACE_S))
        await asyncio.sleep(_RACE_S / 2)
        await self.sender.command(signed(partner.signer, message, type_=CONSENT_REVOKE_TYPE))
        await racing
        if await until(lambda: self._has_ended(terms.partner_id, terms.consent_id)):
            self.revoked += 1
        else:
            self.unheeded.append(terms.consent_id)
        await self._send(revocation.after, _AFTER_PER_SECOND)

    async def _steal(self, theft: Theft, at_s: float) -> None:
        await asyncio.sleep(at_s)
        terms = theft.thief.terms
        partner = self.world.cast.partner(terms.partner_id)
        for record in (asked_for(partner, terms), granted(partner, terms, self.world.cast)):
            await self.sender.command(record)
        self.stolen += 1
        await self._send(theft.orders, _AFTER_PER_SECOND)

    async def _cancel(self, order: Planned, at_s: float, after_s: float) -> None:
        await asyncio.sleep(at_s)
        await self._send([order], 1.0)
        await asyncio.sleep(after_s)
        await self.sender.cancel([order], answer=None)

    async def _cancel_first(self, order: Planned, at_s: float) -> None:
        await asyncio.sleep(at_s)
        await self.sender.cancel([order], answer=CancellationEffect.NOT_SENT)
        await self._send([order], 1.0)

    async def _refund(self, place: int, refunds: Sequence[Planned], after_s: float) -> None:
        while len(self.sender.produced) <= place:  # noqa: ASYNC110 - it grows with every order that is sent
            await asyncio.sleep(_POLL_S)
        await asyncio.sleep(after_s)
        await self._send(refunds, _AFTER_PER_SECOND)

    async def _has_ended(self, partner_id: str, consent_id: str) -> bool:
        sql = "SELECT 1 FROM consent WHERE partner_id = $1 AND consent_id = $2 AND status = 'CANC'"
        return bool(await fetch(self.world.postgres_dsn, sql, partner_id, consent_id))

    async def _close_cycles(self) -> None:
        while True:
            await asyncio.sleep(CYCLE_EVERY_S)
            for network in self.world.networks:
                # A host that is down closes no cycle; the next one then holds more.
                with suppress(aiohttp.ClientError, TimeoutError, OSError):
                    await network.close_cycle()
                    self.cycles += 1


AWAY: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""How PostgreSQL's absence shows; the last where it is lost between two messages of one query."""


async def fetch(dsn: str, sql: str, *arguments: Any) -> list[Any]:
    """Ask PostgreSQL once, by a connection of its own.

    Raises:
        one of :data:`AWAY`: it is away.
    """
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        return list(await connection.fetch(sql, *arguments, timeout=30))
    finally:
        await connection.close(timeout=5)


async def until(holds: Callable[[], Awaitable[bool]]) -> bool:
    """True once it holds; while PostgreSQL is away it does not. False where it does not for :data:`HEED_TIMEOUT_S`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + HEED_TIMEOUT_S
    while loop.time() < deadline:
        with suppress(*AWAY):
            if await holds():
                return True
        await asyncio.sleep(_POLL_S)
    return False
