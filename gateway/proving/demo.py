"""The demo: a realistic day of orders through the whole gateway, and then the check of the books."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

import asyncpg

from gateway.proving.books import Checked, Ending, Endings, Evidence
from gateway.proving.day import Day, View
from gateway.proving.disclosing import check_disclosures
from gateway.proving.handing import check_receiving
from gateway.proving.keeping import Kept, keep, tell_targets
from gateway.proving.pulling import check_pull
from gateway.proving.traffic.cast import make_cast, make_partners
from gateway.proving.traffic.forgeries import forged_records
from gateway.proving.traffic.mix import plan, roles_for
from gateway.proving.traffic.orders import OrderWriter
from gateway.proving.traffic.receivers import make_receivers
from gateway.proving.traffic.sending import Sender, open_sender
from gateway.proving.traffic.story import Step, story_is_right
from gateway.proving.world.judging import judge
from gateway.proving.world.opening import open_world
from gateway.proving.world.receiving import Receiving, open_receiving
from gateway.proving.world.watching import Watch, open_watch
from gateway.proving.world.world import World, WorldPlan

_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Latency:
    """From the order's to the result's Kafka timestamp, milliseconds, over orders that the network answered."""

    p50_ms: float
    p99_ms: float
    measured: int


@dataclass(slots=True)
class DemoResult:
    """What came out.

    Attributes:
        evidence: all three sides; ``endings`` has one end for each of ``evidence.produced``.
        settled_minor: currency → sum.
        per_second: results a second while the first part was sent.
        story: of the consents whose whole life was played.
        disclosed: what there is to see of data that was handed over, and of the disclosure log.
        example: (partner_id, payment_id) of a payment worth looking at.
        kept: what is there to look at, of a run that is left running.
        left: (partner_id, consent_id) of the consent that was revoked while everything under it was asked for.
    """

    evidence: Evidence
    endings: Endings
    checked: list[Checked]
    latency: Latency
    settled_minor: dict[str, int]
    per_second: float
    example: tuple[str, str] | None
    left: tuple[str, str] | None = None
    kept: Kept | None = None
    story: list[Step] = field(default_factory=list)
    disclosed: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def balanced(self) -> bool:
        """True if every check holds."""
        return all(c.ok for c in self.checked)

    def last_line(self) -> str:
        """The line for machines: ``orders`` is the sum of all that follow it but the books."""
        counts = self.endings.counts()
        words = [f"orders={len(self.endings.of)}", *(f"{e.value}={counts[e]}" for e in Ending)]
        return f"demo: {' '.join(words)} books={'balanced' if self.balanced else 'UNBALANCED'}"


async def run_demo(world_plan: WorldPlan, *, orders: int, seed: int, view: View) -> DemoResult:
    """Run the whole demo, in a world with receivers.

    Raises:
        WorldError, ChildError, gateway.proving.stack.LocalStackError: it could not be set up, or a process died.
        ValueError: fewer orders than the mix needs.
    """
    world_plan = replace(world_plan, with_receivers=True)
    now, receivers = datetime.now(UTC), make_receivers()
    cast = make_cast(roles_for(orders), partners=make_partners(), now=now, seed=seed, receivers=receivers)
    planned = plan(orders, cast, seed)
    async with open_world(world_plan, cast, steps=view.step) as world, open_receiving(world) as receiving:
        tell_targets(world)
        view.running(world)
        kept = await _keep(world, view) if world_plan.keep else None
        async with (
            open_watch(world.kafka_bootstrap_servers, [p.partner_id for p in cast.partners]) as watch,
            open_sender(world.kafka, OrderWriter(cast, planned)) as sender,
        ):
            day = Day(world, watch, sender, planned, view, receiving)
            await day.play()
        with view.step("Checking the books from three sides"):
            result = await _judge(world, sender, watch)
        result.per_second = day.per_second
        result.seconds = day.seconds
        result.story = day.story
        result.left = day.left.key if day.left else None
        result.checked.append(story_is_right(day.story))
        await _look(world, day, receiving, result, view)
        result.kept = kept
        world.succeeded = result.balanced
    return result


async def _keep(world: World, view: View) -> Kept:
    """Start what people look at before there is anything to see, so that they see it come."""
    with view.step("Starting the operators' console"):
        kept = await keep(world)
    if kept.console is not None:
        view.scene(f"The operators' console shows what follows: {kept.console}, as demo; password in {kept.password}")
    return kept


async def _look(world: World, day: Day, receiving: Receiving, result: DemoResult, view: View) -> None:
    """Check what was handed to others, and the log of it; remember what there is to see."""
    dsn = world.postgres_dsn
    if world.plan.with_disclosure:
        with view.step("Verifying the disclosure log"):
            logged, seen = await check_disclosures(dsn, world.disclosure_keys, world.directory / "disclosures.json")
            result.checked.append(logged)
    if day.left is not None:
        with view.step("Opening the recipient's and the affiliates' books"):
            handed, lines = await check_receiving(world, receiving, result.evidence, day.left)
            result.checked += handed
            result.disclosed += lines
    if world.plan.with_disclosure:
        result.disclosed += seen
        with view.step("Asking for a customer's data through the portability API"):
            pulled, lines = await check_pull(dsn, world.directory / "portability-api")
            result.checked.append(pulled)
            result.disclosed += lines


async def _judge(world: World, sender: Sender, watch: Watch) -> DemoResult:
    await _until_relayed(world.postgres_dsn)
    forged = await forged_records(world)
    judged = await judge(world, sender.produced, cancellations=sender.cancelled, forged=forged)
    evidence, endings = judged.evidence, judged.endings
    settled: Counter[str] = Counter()
    for payment in evidence.payments.values():
        if payment.state == "settled":
            given_back = payment.operation == "refund"
            settled[payment.currency] += -payment.amount_minor if given_back else payment.amount_minor
    return DemoResult(
        evidence=evidence,
        endings=endings,
        checked=judged.checked,
        latency=latency_of(evidence, endings, watch),
        settled_minor=dict(settled),
        per_second=0.0,
        example=_example(evidence),
    )


async def _until_relayed(dsn: str) -> None:
    """Wait for the relay's cursor: it moves a moment after the last event is on its topic."""
    connection = await asyncpg.connect(dsn)
    try:
        for _ in range(100):
            if not await connection.fetchval(
                "SELECT EXISTS (SELECT FROM outbox o, outbox_cursor c WHERE (o.tx, o.id) > (c.tx, c.id))"
            ):
                return
            await asyncio.sleep(_POLL_S)
    finally:
        await connection.close()


def latency_of(evidence: Evidence, endings: Endings, watch: Watch) -> Latency:
    """Order to result, over orders that ended without a doubt: what was reversed waited for the network's silence."""
    spans = []
    for record, ending in zip(evidence.produced, endings.of, strict=True):
        if record.order is None or ending not in {Ending.SETTLED, Ending.DECLINED, Ending.REJECTED}:
            continue
        told = watch.result_at_ms.pop(str(record.order.payment_id), None)
        if told is not None:
            spans.append(told - record.timestamp_ms)
    spans.sort()
    return Latency(percentile(spans, 0.5), percentile(spans, 0.99), len(spans))


def percentile(spans: list[int], share: float) -> float:
    """The nearest-rank percentile of sorted spans; 0 of none."""
    return float(spans[min(len(spans) - 1, int(share * len(spans)))]) if spans else 0.0


def _example(evidence: Evidence) -> tuple[str, str] | None:
    """A payment with a story: of those that were in doubt the one that took longest, or else any that settled."""
    reversed_ = [p for p in evidence.payments.values() if p.state == "reversed"]
    if reversed_:
        longest = max(reversed_, key=lambda p: p.changed_at_s - p.decided_at_s)
        return longest.partner_id, str(longest.payment_id)
    return next(((p.partner_id, str(p.payment_id)) for p in evidence.payments.values() if p.state == "settled"), None)
