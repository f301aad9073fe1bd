"""``mypay bench --flood``: how late one partner's orders are while another sends ten times what the gateway takes.

The quiet partner sends at a steady, low rate: first alone, then beside each kind of flood. A latency is that of an
order to its approved event, both by Kafka's time. Before the next flood begins the one before has been taken in.

Both partners are under the quotas of :mod:`schemas.access`, as on brokers that ask who they are; here it is by client
id. So beside what the flood's sender tries to send it is told how much of it the broker let in.

Everything runs on this machine, the flood's sender too: with as few cores as stages it measures their share of the
processor as well.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from msgspec import structs
from pydantic_core import from_json

from gateway.base.process import SilentObserver
from gateway.client import signed
from gateway.messaging.access import limit_clients
from gateway.messaging.backlog import Backlogs
from gateway.messaging.producer import KafkaPublisher
from gateway.messaging.records import Outgoing
from gateway.messaging.settings import KafkaSettings
from gateway.proving.bench.loads import approved
from gateway.proving.bench.result import BenchError, View
from gateway.proving.collect.topics import event_row, read_topics
from gateway.proving.demo import percentile
from gateway.proving.traffic.cast import Cast, Partner, Role, make_cast, make_partners
from gateway.proving.traffic.orders import VALIDITY
from gateway.proving.traffic.presigning import presign, read_presigned
from gateway.proving.world.opening import open_world
from gateway.proving.world.world import World, WorldPlan
from schemas.access import quotas
from schemas.bulk import Acceptance, BulkItem, ControlSum, PaymentBulk
from schemas.codec import decode
from schemas.orders import PaymentOrder
from schemas.primitives import OrderId, payment_id_of
from schemas.principals import Principal
from schemas.principals import Role as KafkaRole
from schemas.topics import ORDERS, WAITING_ORDERS, dispatch_topic, events_topic

CUSTOMERS: Final = 400
QUIET_PER_SECOND: Final = 20.0
WARM_ORDERS: Final = 4_000
FLOOD: Final = 10
"""Times what the gateway takes."""

UNSIGNED: Final = 20_000
BULKS: Final = 40
BULK_ITEMS: Final = 1_000
_BATCH: Final = 250
_FLOOD_BATCH: Final = 1_000
_TIMEOUT_S: Final = 120.0
_TAKEN_IN_S: Final = 600.0
_POLL_S: Final = 0.2
_TICK_S: Final = 0.005


@dataclass(frozen=True, slots=True)
class FloodPlan:
    """What to measure; ``seconds``: alone, and beside each flood."""

    seconds: float = 15.0
    initiation_workers: int = 1
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Sent:
    """What the flood's sender had to send, and what the brokers let in of it.

    Attributes:
        orders: that one record counts as: a bulk its items.
        offered, admitted: records.
        seconds: how long it sent.
        per_second: records that it had to send a second; None: all of them at once.
    """

    orders: int
    offered: int
    admitted: int
    seconds: float
    per_second: float | None = None

    @property
    def admitted_per_s(self) -> float:
        """Orders."""
        return self.orders * self.admitted / self.seconds


@dataclass(slots=True)
class FloodResult:
    """What was measured.

    Attributes:
        capacity_per_s: orders of one partner that were decided a second, with nobody else and without a quota.
        latencies_ms: phase → latencies of the quiet partner's orders, sorted.
        sent: flood → what was sent of it.
    """

    plan: FloodPlan
    capacity_per_s: float = 0.0
    latencies_ms: dict[str, list[int]] = field(default_factory=dict)
    sent: dict[str, Sent] = field(default_factory=dict)

    def p99_ms(self, phase: str) -> float:
        """Of the quiet partner's orders."""
        return percentile(self.latencies_ms[phase], 0.99)

    def ratio(self, flood: str) -> float:
        """How many times as late they were beside that flood."""
        return self.p99_ms(flood) / max(1.0, self.p99_ms(QUIET))

    def times_capacity(self, per_second: float) -> float:
        """How many times what the gateway takes these orders a second are."""
        return per_second / max(1.0, self.capacity_per_s)

    def last_line(self) -> str:
        """The line for machines: ``…_offered_x`` and ``…_admitted_x`` are times the capacity."""
        told = [f"flood: capacity_per_s={self.capacity_per_s:.0f} quiet_p99_ms={self.p99_ms(QUIET):.0f}"]
        told += [f"{name}_ratio={self.ratio(name):.2f}" for name in self.sent]
        for name, sent in self.sent.items():
            if sent.per_second is not None:
                told.append(f"{name}_offered_x={self.times_capacity(sent.per_second):.1f}")
            told.append(f"{name}_admitted_x={self.times_capacity(sent.admitted_per_s):.1f}")
        return " ".join(told)


QUIET: Final = "quiet"


async def run_flood(plan: FloodPlan, home: Path, *, view: View) -> FloodResult:
    """Measure.

    Raises:
        BenchError: an order of the quiet partner was not approved.
        WorldError, ChildError, gateway.proving.stack.LocalStackError: it could not be set up, or a process died.
    """
    partners = make_partners(2)
    cast = make_cast({Role.PLAIN: CUSTOMERS}, partners=partners, now=datetime.now(UTC), seed=plan.seed)
    world_plan = WorldPlan(
        "flood",
        home,
        seed=plan.seed,
        cycle_seconds=2.0,
        initiation_workers=plan.initiation_workers,
        log_level="warning",
        with_proofs=True,
    )
    async with open_world(world_plan, cast, steps=view.step) as world, AsyncExitStack() as stack:
        names = [Principal(KafkaRole.PARTNER, p.partner_id).name for p in partners]
        await limit_clients(world.kafka, quotas(partners=[p.partner_id for p in partners]))
        # One of nobody's, for what is measured without a quota.
        unlimited, quiet, loud = [
            await _publishing(stack, replace(world.kafka, client_id=name)) for name in (world.kafka.client_id, *names)
        ]
        result = await _Flood(plan, world, cast, (unlimited, quiet, loud), view).run()
        world.succeeded = True
    return result


async def _publishing(stack: AsyncExitStack, kafka: KafkaSettings) -> KafkaPublisher:
    publisher = KafkaPublisher(kafka, SilentObserver())
    await publisher.start()
    stack.push_async_callback(publisher.stop)
    return publisher


@dataclass(frozen=True, slots=True)
class _Offer:
    """A flood, ready to be sent: ``per_second`` records, or as fast as the brokers take them."""

    orders: int
    offered: int
    batches: Iterator[Sequence[Outgoing]]
    per_second: float | None = None


class _Flood:
    def __init__(
        self,
        plan: FloodPlan,
        world: World,
        cast: Cast,
        publishers: tuple[KafkaPublisher, KafkaPublisher, KafkaPublisher],
        view: View,
    ) -> None:
        self._plan = plan
        self._world = world
        self._quiet, self._loud = (_alone(cast, p) for p in cast.partners)
        self._unlimited, self._of_quiet, self._of_loud = publishers
        self._view = view
        self._asked: dict[str, str] = {}

    async def run(self) -> FloodResult:
        result = FloodResult(self._plan)
        result.capacity_per_s = await self._capacity()
        signed = await self._signed(FLOOD * result.capacity_per_s)
        floods: Mapping[str, Callable[[], Awaitable[_Offer]]] = {
            "orders": signed,
            "unsigned": self._unsigned,
            "bulks": self._bulks,
        }
        quiet = await self._sign(self._quiet, int(QUIET_PER_SECOND * self._plan.seconds) * (1 + len(floods)), "q")
        orders = read_presigned(quiet)
        await self._phase(QUIET, orders)
        for name, prepare in floods.items():
            # Before the clock runs: this is no work of the gateway's.
            offer = await prepare()
            result.sent[name] = await self._flooded(name, orders, offer)
            await self._taken_in(name)
        with self._view.step("Reading what the quiet partner was told"):
            await self._read(result)
        return result

    async def _sign(self, cast: Cast, count: int, name: str) -> list[Path]:
        with self._view.step(f"Signing {count:,} orders"):
            return await asyncio.to_thread(presign, cast, count, self._world.directory, name=name, seed=self._plan.seed)

    async def _capacity(self) -> float:
        orders = list(read_presigned(await self._sign(self._loud, WARM_ORDERS, "w")))
        with self._view.step(f"{WARM_ORDERS:,} orders as fast as they go"):
            began = time.monotonic()
            for begin in range(0, len(orders), _BATCH):
                await self._unlimited.publish(orders[begin : begin + _BATCH])
            await self._until_decided(WARM_ORDERS)
            return WARM_ORDERS / (time.monotonic() - began)

    async def _until_decided(self, count: int) -> None:
        deadline = time.monotonic() + _TIMEOUT_S
        while (decided := await approved(self._world)) < count:
            self._world.check()
            if time.monotonic() > deadline:
                raise BenchError(f"{count - decided} orders were not decided in time")
            await asyncio.sleep(_POLL_S)

    async def _flooded(self, name: str, orders: Iterator[Outgoing], offer: _Offer) -> Sent:
        sending = asyncio.create_task(self._send(offer))
        try:
            await self._phase(name, orders)
            return await sending
        finally:
            sending.cancel()

    async def _phase(self, name: str, orders: Iterator[Outgoing]) -> None:
        with self._view.step(f"{QUIET_PER_SECOND:.0f} orders a second for {self._plan.seconds:.0f} s: {name}"):
            loop = asyncio.get_running_loop()
            began, sent, count = loop.time(), 0, int(QUIET_PER_SECOND * self._plan.seconds)
            while sent < count:
                due = min(int((loop.time() - began) * QUIET_PER_SECOND) + 1, count)
                some = list(itertools.islice(orders, due - sent))
                for order in some:
                    self._asked[_payment_id(order.value)] = name
                await self._of_quiet.publish(some)
                sent = max(sent, due)
                self._world.check()
                await asyncio.sleep(1 / QUIET_PER_SECOND)

    async def _send(self, offer: _Offer) -> Sent:
        """Send for as long as a phase lasts, and what is due at once: what the brokers held up is made up for."""
        loop = asyncio.get_running_loop()
        began, admitted = loop.time(), 0
        while (passed := loop.time() - began) < self._plan.seconds:
            if offer.per_second is not None and admitted >= passed * offer.per_second:
                await asyncio.sleep(_TICK_S)
                continue
            batch = next(offer.batches, None)
            if batch is None:
                break
            await self._of_loud.publish(batch)
            admitted += len(batch)
        return Sent(offer.orders, offer.offered, admitted, loop.time() - began, offer.per_second)

    async def _signed(self, per_second: float) -> Callable[[], Awaitable[_Offer]]:
        count = int(self._plan.seconds * per_second)
        records = read_presigned(await self._sign(self._loud, count, "f"))

        async def prepare() -> _Offer:
            return _Offer(1, count, _batched(records), per_second)

        return prepare

    async def _unsigned(self) -> _Offer:
        [order] = list(itertools.islice(read_presigned(await self._sign(self._loud, 1, "u")), 1))
        head, _, _ = dict(order.headers)["signature"].partition(b".")
        bad = [(n, head + b".." + b"A" * 86 if n == "signature" else v) for n, v in order.headers]
        records = [
            structs.replace(order, key=b"n-%d" % n, value=order.value.replace(b'"u', b'"x%d' % n), headers=bad)
            for n in range(UNSIGNED)
        ]
        return _Offer(1, UNSIGNED, _batched(iter(records)))

    async def _bulks(self) -> _Offer:
        orders = [decode(PaymentOrder, o.value) for o in read_presigned(await self._sign(self._loud, BULK_ITEMS, "v"))]
        return _Offer(BULK_ITEMS, BULKS, iter([[self._bulk(number, orders)] for number in range(BULKS)]))

    def _bulk(self, number: int, orders: Sequence[PaymentOrder]) -> Outgoing:
        partner: Partner = self._loud.partners[0]
        items = tuple(
            BulkItem(
                order_id=OrderId(f"k{number}-{n}"), consent_id=o.consent_id, merchant_id=o.merchant_id, amount=o.amount
            )
            for n, o in enumerate(orders)
        )
        now = datetime.now(UTC)
        bulk = PaymentBulk(
            partner_id=partner.partner_id,
            bulk_id=f"flood-{number}",
            acceptance=Acceptance.PARTIAL,
            number_of_transactions=len(items),
            control_sum=ControlSum(currency="KRW", value=str(sum(i.amount.minor for i in items))),
            items=items,
            issued_at=now,
            expires_at=now + VALIDITY,
        )
        return signed(partner.signer, bulk)

    async def _taken_in(self, name: str) -> None:
        with self._view.step(f"Until the flood has been taken in: {name}"):
            backlogs = Backlogs(self._world.kafka, SilentObserver())
            waited = [
                (ORDERS, Principal(KafkaRole.INITIATION).name),
                (WAITING_ORDERS, f"{Principal(KafkaRole.INITIATION).name}:waiting"),
                *(
                    (dispatch_topic(n), Principal(KafkaRole.EXECUTION, n).name)
                    for n in (n.network_id for n in self._world.networks)
                ),
            ]
            deadline = time.monotonic() + _TAKEN_IN_S
            try:
                while (left := await backlogs.of(waited)) is None or left:
                    self._world.check()
                    if time.monotonic() > deadline:
                        raise BenchError("the flood was not taken in in time")
                    self._view.line(f"{sum((left or {}).values()):,} records wait")
                    await asyncio.sleep(_POLL_S)
            finally:
                await backlogs.stop()

    async def _read(self, result: FloodResult) -> None:
        """Wait until every order of the quiet partner is approved; then compare Kafka's times."""
        kafka, partner = self._world.kafka_bootstrap_servers, self._quiet.partners[0].partner_id
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            told = {}
            async for record in read_topics(kafka, [events_topic(partner)]):
                row = event_row(record)
                if row.kind == "payment.approved":
                    told[row.subject] = row.timestamp_ms
            if told.keys() >= self._asked.keys():
                break
            if time.monotonic() > deadline:
                missing = len(self._asked.keys() - told.keys())
                raise BenchError(f"{missing} orders of the quiet partner were not approved in time")
            await asyncio.sleep(1.0)
        sent = {
            _payment_id(record.value): record.timestamp
            async for record in read_topics(kafka, [ORDERS])
            # The floods are others'.
            if b'"order_id":"q' in record.value
        }
        for payment_id, phase in self._asked.items():
            result.latencies_ms.setdefault(phase, []).append(told[payment_id] - sent[payment_id])
        for latencies in result.latencies_ms.values():
            latencies.sort()


def _batched(records: Iterator[Outgoing]) -> Iterator[Sequence[Outgoing]]:
    return iter(lambda: list(itertools.islice(records, _FLOOD_BATCH)), [])


def _alone(cast: Cast, partner: Partner) -> Cast:
    customers = tuple(c for c in cast.customers if c.terms.partner_id == partner.partner_id)
    return Cast((partner,), customers, cast.identities)


def _payment_id(body: bytes) -> str:
    order = from_json(body)
    return str(payment_id_of(order["partner_id"], order["order_id"]))
