"""A torture run: the whole gateway under load while everything fails, then rest, then the books from three sides."""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from gateway.proving.books import Checked, Endings, Evidence
from gateway.proving.books.losses import Losses, breaks_explained, losses_of, topic_holds, turned_away_rightly
from gateway.proving.collect.topics import read_topics
from gateway.proving.torture.handing import ask_for_exports, judge_handed
from gateway.proving.torture.load import AWAY, Load, Loader, fetch, make_load
from gateway.proving.torture.noise import is_from_strangers, is_noise
from gateway.proving.torture.proxy import Proxy, open_proxy
from gateway.proving.torture.recovery import Recovery, recovery_of
from gateway.proving.torture.rest import NotAtRestError, come_to_rest, flowing
from gateway.proving.torture.strikes import Kind, Strike, each_once, schedule
from gateway.proving.torture.striking import Striker, UnhealedError, in_background
from gateway.proving.torture.supervising import Supervisor
from gateway.proving.traffic.cast import make_cast, make_partners
from gateway.proving.traffic.forgeries import AWAY as NOT_FORGED
from gateway.proving.traffic.forgeries import Forger, forged_records
from gateway.proving.traffic.mix import ORDERS_MIN, PAID, plan, roles_for
from gateway.proving.traffic.orders import OrderWriter
from gateway.proving.traffic.receivers import make_receivers
from gateway.proving.traffic.sending import Sender, open_sender
from gateway.proving.world.judging import judge
from gateway.proving.world.opening import open_world
from gateway.proving.world.starting import start_gateway
from gateway.proving.world.world import World, WorldPlan
from schemas.topics import ORDERS

PER_SECOND: Final = 100.0
"""A quarter of what two cores carry: the rest is for starting processes again and for catching up."""

SHORT_SECONDS: Final = 15.0
SHORT_PER_SECOND: Final = 60.0
_SHORT_GAP_S: Final = 0.4

KAFKA_PATIENCE_S: Final = 300.0
"""The sender waits this long for Kafka to come back: a record that it gave up might be there all the same."""

_LOOK_S: Final = 1.0
_FORGE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class TorturePlan:
    """What to do.

    Attributes:
        seconds: how long orders are sent and strikes fall.
        each_once: every kind of fault once, in a fixed order, instead of a schedule from the seed.
    """

    seconds: float
    seed: int
    per_second: float = PER_SECOND
    each_once: bool = False

    @classmethod
    def short(cls, seed: int) -> "TorturePlan":
        """A short run that has every kind of fault once."""
        return cls(SHORT_SECONDS, seed, per_second=SHORT_PER_SECOND, each_once=True)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a run stands.

    Attributes:
        by_state: payments by their state; as of the last time that PostgreSQL answered.
    """

    seconds: float
    sent: int
    strikes: int
    kills: int
    by_state: Counter[str]


class View(Protocol):
    """Shows a run to whoever watches."""

    def step(self, title: str) -> AbstractContextManager[None]:
        """A step runs, for as long as the block lasts."""

    def scene(self, text: str) -> None:
        """Something begins that is worth a sentence."""

    def standing(self, standing: Standing) -> None:
        """The run goes on; called about once a second."""

    def waiting(self, text: str) -> None:
        """The run waits for something."""


@dataclass(slots=True)
class TortureResult:
    """What came out.

    Attributes:
        struck, missed: kind → faults carried out, and left out because their target was down already.
        messages: what the networks counted, faulty messages among them.
        ended, unhealthy, overdue: process → how often it ended by itself, was killed for saying that it was stuck, and
            did not stop when told to.
    """

    plan: TorturePlan
    evidence: Evidence
    endings: Endings
    checked: list[Checked]
    losses: Losses
    recovery: Recovery
    struck: Counter[Kind]
    missed: Counter[Kind]
    kills: int
    ended: Counter[str]
    unhealthy: Counter[str]
    overdue: Counter[str]
    revoked: int
    stolen: int
    cancelled: int
    cycles: int
    logs: Path
    messages: dict[str, int] = field(default_factory=dict)

    @property
    def violations(self) -> int:
        """Of all checks together."""
        return sum(c.violation_count for c in self.checked)

    @property
    def ok(self) -> bool:
        """True if nothing was lost, doubled or wrong."""
        return not (self.violations or self.losses.lost or self.losses.doubled)

    def last_line(self) -> str:
        """The line for machines."""
        return (
            f"torture: minutes={self.plan.seconds / 60:g} kills={self.kills} orders={len(self.endings.of)} "
            f"lost={self.losses.lost} doubled={self.losses.doubled} violations={self.violations}"
        )


async def run_torture(world_plan: WorldPlan, torture: TorturePlan, *, view: View) -> TortureResult:
    """Run it.

    Raises:
        WorldError, ChildError, gateway.proving.stack.LocalStackError: it could not be set up.
    """
    orders = max(ORDERS_MIN, round(torture.seconds * torture.per_second))
    receivers = make_receivers() if world_plan.with_receivers else None
    cast = make_cast(
        roles_for(orders), partners=make_partners(), now=datetime.now(UTC), seed=torture.seed, receivers=receivers
    )
    load = make_load(plan(orders, cast, torture.seed), cast, torture.seed)
    async with open_world(world_plan, cast, steps=view.step) as world, AsyncExitStack() as resources:
        proxies = {
            n.network_id: await resources.enter_async_context(open_proxy(listen=n.gateway_port, connect=n.port))
            for n in world.networks
        }
        await start_gateway(world, view.step)
        sender = await resources.enter_async_context(
            open_sender(world.kafka, OrderWriter(cast, load.all), patience_s=KAFKA_PATIENCE_S)
        )
        run = _Run(world, torture, load, sender, proxies, view)
        await run.play()
        with view.step("Checking the books from three sides"):
            result = await run.judge()
        world.succeeded = result.ok
    return result


class _Run:
    """The phases, one after the other."""

    def __init__(
        self,
        world: World,
        torture: TorturePlan,
        load: Load,
        sender: Sender,
        proxies: dict[str, Proxy],
        view: View,
    ) -> None:
        self._world = world
        self._plan = torture
        self._load = load
        self._sender = sender
        self._view = view
        self._supervisor = Supervisor(world)
        self._striker = Striker(world, self._supervisor, proxies)
        self._loader = Loader(world, sender, tick=lambda: None)
        self._began = time.monotonic()
        self._by_state: Counter[str] = Counter()
        self._rest: list[str] = []

    async def play(self) -> None:
        strikes = self._strikes()
        self._view.scene(
            f"{self._plan.per_second:.0f} orders a second for {self._plan.seconds:.0f} s, and {len(strikes)} strikes"
            f" (seed {self._plan.seed})"
        )
        self._began = time.monotonic()
        watching = asyncio.create_task(self._watch(), name="watch")
        supervising = asyncio.create_task(self._supervisor.run(), name="supervisor")
        async with in_background(watching, supervising):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(
                    self._loader.run(self._load, per_second=self._plan.per_second, seed=self._plan.seed), name="load"
                )
                await flowing(self._world, tell=self._view.waiting)
                forging = tasks.create_task(self._forge(), name="forger")
                asking = tasks.create_task(
                    ask_for_exports(self._world.cast, self._sender, self._plan.seed), name="exports"
                )
                await self._striker.run(strikes)
                forging.cancel()
                asking.cancel()
            self._view.scene("All faults end; what is in doubt is settled with the networks")
            try:
                await self._striker.heal()
                await come_to_rest(self._world, tell=self._view.waiting)
            except (UnhealedError, NotAtRestError) as error:
                self._rest.append(str(error))

    async def _forge(self) -> None:
        """Write to execution's topics what the gateway did not, again and again, whenever Kafka is there."""
        forger = Forger(self._world)
        while True:
            with suppress(*NOT_FORGED):
                await forger.forge(datetime.now(UTC))
            await asyncio.sleep(_FORGE_S)

    def _strikes(self) -> Sequence[Strike]:
        stages = list(self._world.http)
        networks = [n.network_id for n in self._world.networks]
        if self._plan.each_once:
            return each_once(stages=stages, networks=networks, gap_s=_SHORT_GAP_S)
        return schedule(self._plan.seed, seconds=self._plan.seconds, stages=stages, networks=networks)

    async def _watch(self) -> None:
        sql = "SELECT state, count(*) AS n FROM payment GROUP BY state"
        while True:
            with suppress(*AWAY):
                self._by_state = Counter({r["state"]: r["n"] for r in await fetch(self._world.postgres_dsn, sql)})
            self._view.standing(
                Standing(
                    seconds=time.monotonic() - self._began,
                    sent=len(self._sender.produced),
                    strikes=self._striker.struck.total(),
                    kills=self._striker.kills,
                    by_state=self._by_state,
                )
            )
            await asyncio.sleep(_LOOK_S)

    async def judge(self) -> TortureResult:
        produced = self._load.expected(self._sender.produced)
        judged = await judge(
            self._world,
            produced,
            cancellations=self._sender.cancelled,
            forged=await forged_records(self._world),
            redelivery=True,
            breaks_allowed=True,
            strangers=is_from_strangers,
        )
        evidence, endings, checked = judged.evidence, judged.endings, judged.checked
        checked.append(breaks_explained(evidence))
        checked.append(turned_away_rightly(evidence, endings, PAID))
        checked.append(topic_holds(produced, self._sender.cancelled, await self._on_topic()))
        if self._world.plan.with_receivers:
            try:
                checked += await judge_handed(self._world, self._sender, evidence, tell=self._view.waiting)
            except NotAtRestError as error:
                self._rest.append(str(error))
        self._rest += [f"{consent_id} stands, though it was revoked" for consent_id in self._loader.unheeded]
        title = "Everything came to rest: nothing in doubt, nothing waiting, all stages ready"
        checked.append(Checked("came_to_rest", title, 1, tuple(self._rest), len(self._rest)))
        return TortureResult(
            plan=self._plan,
            evidence=evidence,
            endings=endings,
            checked=checked,
            losses=losses_of(evidence, endings),
            recovery=await recovery_of(self._world.postgres_dsn, self._striker.killed),
            struck=self._striker.struck,
            missed=self._striker.missed,
            kills=self._striker.kills + self._supervisor.unhealthy.total() + self._striker.overdue.total(),
            ended=self._supervisor.ended,
            unhealthy=self._supervisor.unhealthy,
            overdue=self._striker.overdue,
            revoked=self._loader.revoked,
            stolen=self._loader.stolen,
            cancelled=len(self._sender.cancelled),
            cycles=self._loader.cycles,
            logs=self._world.logs,
            messages=evidence.network_counters,
        )

    async def _on_topic(self) -> list[tuple[int, int, bytes]]:
        found = [
            (r.partition, r.offset, hashlib.sha256(r.value or b"").digest())
            async for r in read_topics(self._world.kafka_bootstrap_servers, [ORDERS])
        ]
        return [record for record in found if not is_noise(record[2])]
