"""``mypay bench --pauses``: how long orders wait when a worker of a stage dies, leaves or comes, under a steady load.

Two workers run of each stage between an order and its answer. One of them is struck, of the relay that which leads, in
every way that happens in operation (:class:`Blow`); then the next stage's. An order belongs to the phase in which it
was sent. Its wait is that to its answer's event, both by Kafka's time.

Payments that a killed worker had sent and not heard of are in doubt until the network is asked: they are told apart.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum, unique
from functools import partial
from pathlib import Path
from typing import Final, assert_never

import aiohttp

from gateway.proving.bench.loads import Loads
from gateway.proving.bench.result import BenchError, View
from gateway.proving.books import Checked, Ending, Evidence, balanced
from gateway.proving.demo import percentile
from gateway.proving.torture.load import fetch
from gateway.proving.torture.rest import NotAtRestError, come_to_rest, until
from gateway.proving.traffic.cast import Role, make_cast, make_partners
from gateway.proving.world.confirming import SKIPPED_S, produced_on_topic
from gateway.proving.world.judging import judge
from gateway.proving.world.opening import open_world
from gateway.proving.world.starting import start_stopped
from gateway.proving.world.world import STOP_TIMEOUT_S, World, WorldPlan

CUSTOMERS: Final = 2000
NETWORK: Final = "bcard"
STAGES: Final = ("initiation", f"execution {NETWORK}", "relay")
"""Between an order and the event of its answer."""

QUIET: Final = "quiet"
_ANSWERS: Final = frozenset(("payment.approved", "payment.declined", "payment.rejected", "payment.reversed"))
_DOUBT: Final = "payment.unknown"
_LEADS: Final = "mypay_relay_leader 1"
# What a killed worker had sent may not have been booked: then it is undone.
_ENDS: Final = frozenset((Ending.SETTLED, Ending.REVERSED))
_IN_DOUBT: Final = """
SELECT count(*) AS n FROM payment
WHERE state IN ('unknown', 'reversing') OR state = 'sent' AND changed_at < clock_timestamp() - interval '2 seconds'
"""
_EASE_TIMEOUT_S: Final = 120.0


@unique
class Blow(StrEnum):
    """What happens to one of two workers, in this order."""

    RESTARTED = "restarted"  # killed, and started again at once, as its supervisor does
    LOST = "lost"  # killed, and not started again: the other one takes its work over
    BACK = "back"  # started again: work is divided anew
    ROLLED = "rolled"  # told to stop, and started again, as a release does


@dataclass(frozen=True, slots=True)
class PausesPlan:
    """What to run: ``per_second`` orders, and so many ``seconds`` that belong to each blow."""

    per_second: float = 100.0
    seconds: float = 15.0
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Phase:
    """What was sent from a blow on, until ``until_ms``; milliseconds since 1970."""

    name: str
    since_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Waits:
    """How long orders waited for their answers, in milliseconds.

    Attributes:
        sorted_ms: of the orders that were sent in the phase, but those in doubt.
        doubts_ms: of all that came to be in doubt and were sent in it, or before it and not answered yet.
    """

    sorted_ms: list[int]
    doubts_ms: list[int]

    @property
    def p50_ms(self) -> float:
        """The median wait."""
        return percentile(self.sorted_ms, 0.5)

    @property
    def p99_ms(self) -> float:
        """That which one of a hundred is above."""
        return percentile(self.sorted_ms, 0.99)

    @property
    def worst_ms(self) -> int:
        """The longest wait."""
        return self.sorted_ms[-1] if self.sorted_ms else 0

    @property
    def doubt_ms(self) -> int:
        """The longest of those in doubt."""
        return max(self.doubts_ms, default=0)


@dataclass(slots=True)
class PausesResult:
    """What was measured: phase → waits, and the check of the books."""

    plan: PausesPlan
    waits: dict[str, Waits] = field(default_factory=dict)
    checked: list[Checked] = field(default_factory=list)

    @property
    def balanced(self) -> bool:
        """True if every check of the books holds."""
        return balanced(self.checked)

    def last_line(self) -> str:
        """The line for machines: the longest waits, and of what was in doubt."""
        told = [f"pauses: per_s={self.plan.per_second:.0f}"]
        told += [f"{name.replace(' ', '_')}_ms={waits.worst_ms}" for name, waits in self.waits.items()]
        told.append(f"doubt_ms={max((w.doubt_ms for w in self.waits.values()), default=0)}")
        return " ".join([*told, f"books={'balanced' if self.balanced else 'unbalanced'}"])


def waits_of(evidence: Evidence, phases: Sequence[Phase]) -> dict[str, Waits]:
    """Find every order's wait, and to which phase it belongs.

    Raises:
        BenchError: an order has no answer.
    """
    answered: dict[str, int] = {}
    doubted = set[str]()
    for event in evidence.events:
        if event.kind in _ANSWERS:
            answered[event.subject] = min(event.timestamp_ms, answered.get(event.subject, event.timestamp_ms))
        elif event.kind == _DOUBT:
            doubted.add(event.subject)
    spans = [(r.timestamp_ms, str(r.order.payment_id)) for r in evidence.produced if r.order is not None]
    if missing := sum(payment not in answered for _, payment in spans):
        raise BenchError(f"{missing} orders have no answer")
    return {phase.name: _waits_in(phase, spans, answered, doubted) for phase in phases}


def _waits_in(phase: Phase, spans: Sequence[tuple[int, str]], answered: Mapping[str, int], doubted: set[str]) -> Waits:
    plain: list[int] = []
    doubts: list[int] = []
    for sent, payment in spans:
        if payment in doubted:
            if sent < phase.until_ms and answered[payment] >= phase.since_ms:
                doubts.append(answered[payment] - sent)
        elif phase.since_ms <= sent < phase.until_ms:
            plain.append(answered[payment] - sent)
    return Waits(sorted(plain), sorted(doubts))


async def run_pauses(plan: PausesPlan, home: Path, *, view: View) -> PausesResult:
    """Run, strike and watch.

    Raises:
        BenchError: what was sent did not end.
        WorldError, ChildError, gateway.proving.stack.LocalStackError: it could not be set up, or a process died.
    """
    cast = make_cast({Role.PLAIN: CUSTOMERS}, partners=make_partners(2), now=datetime.now(UTC), seed=plan.seed)
    world_plan = WorldPlan(
        "pauses",
        home,
        seed=plan.seed,
        cycle_seconds=2.0,
        initiation_workers=2,
        execution_workers=2,
        relay_workers=2,
        asked=(NETWORK,),
        log_level="warning",
        with_proofs=True,
    )
    result = PausesResult(plan)
    async with open_world(world_plan, cast, steps=view.step) as world:
        loads = Loads(world, cast, view, seed=plan.seed)
        try:
            phases = await _Striking(plan, world, view).run(loads)
            with view.step("Until all has ended"):
                await come_to_rest(world, tell=view.line)
        except NotAtRestError as error:
            raise BenchError(str(error)) from error
        with view.step("Checking the books from three sides"):
            produced = [r._replace(expected=_ENDS) for r in await produced_on_topic(world.kafka_bootstrap_servers)]
            judged = await judge(world, produced, redelivery=True, breaks_allowed=True)
        result.checked, result.waits = judged.checked, waits_of(judged.evidence, phases)
        world.succeeded = result.balanced
    return result


class _Striking:
    """Blow after blow under one load."""

    def __init__(self, plan: PausesPlan, world: World, view: View) -> None:
        self._plan = plan
        self._world = world
        self._view = view
        self._lost = ""

    async def run(self, loads: Loads) -> list[Phase]:
        phases = 1 + len(STAGES) * len(Blow)
        # As many again, for what comes between the phases.
        orders = await loads.sign(int(2 * phases * self._plan.seconds * self._plan.per_second), "s")
        load = loads.start(orders, "--per-second", str(self._plan.per_second))
        try:
            await asyncio.sleep(SKIPPED_S)
            told = [await self._phase(QUIET, _nothing)]
            for stage in STAGES:
                for blow in Blow:
                    load.check()
                    told.append(await self._phase(f"{stage.split(' ')[0]} {blow}", partial(self._strike, blow, stage)))
        finally:
            await load.stop(STOP_TIMEOUT_S)
        loads.count(load)
        return told

    async def _phase(self, name: str, strike: Callable[[], Awaitable[None]]) -> Phase:
        with self._view.step(name):
            began = time.time()
            await asyncio.gather(strike(), asyncio.sleep(self._plan.seconds))
            # Its last orders are answered, and what it left in doubt has ended, before the next blow.
            await asyncio.sleep(SKIPPED_S)
            await until(self._in_doubt, self._view.line, within_s=_EASE_TIMEOUT_S)
        return Phase(name, int(began * 1000), int((began + self._plan.seconds) * 1000))

    async def _in_doubt(self) -> str:
        (row,) = await fetch(self._world.postgres_dsn, _IN_DOUBT)
        return f"{row['n']} payments in doubt" if row["n"] else ""

    async def _strike(self, blow: Blow, stage: str) -> None:
        name = self._lost or await self._victim(stage)
        child = self._world.stage(name)
        match blow:
            case Blow.RESTARTED:
                child.kill()
                await child.ended()
                await start_stopped(self._world, [name])
            case Blow.LOST:
                child.kill()
                await child.ended()
                self._lost = name
            case Blow.BACK:
                await start_stopped(self._world, [name])
                self._lost = ""
            case Blow.ROLLED:
                await child.stop(STOP_TIMEOUT_S)
                await start_stopped(self._world, [name])
            case _:
                assert_never(blow)

    async def _victim(self, stage: str) -> str:
        """Its first worker; of the relay, whose other workers stand by, the one that leads."""
        if stage != "relay":
            return stage
        async with aiohttp.ClientSession(raise_for_status=True) as session:
            for name in (s.name for s in self._world.stages if s.name.startswith(stage)):
                async with session.get(f"{self._world.http[name]}/metrics") as answer:
                    if _LEADS in await answer.text():
                        return name
        raise BenchError("no relay leads")


async def _nothing() -> None:
    """Nothing happens."""
