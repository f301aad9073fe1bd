"""A running world as tests see it: send orders, wait for what must come, look from every side, check the books."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import aiohttp
import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import CommitFailedError, KafkaError
from prometheus_client.parser import text_string_to_metric_families

from gateway.app.process import started_process
from gateway.app.settings import Settings
from gateway.client import Client, open_client, signed
from gateway.messaging.records import Outgoing
from gateway.messaging.settings import KafkaSettings
from gateway.observability.metric import CounterMetric
from gateway.observability.metrics import METRICS, reported_as
from gateway.proving.books import (
    Checked,
    Ending,
    Endings,
    Evidence,
    Produced,
    ProducedCancellation,
    check_books,
    endings_of,
)
from gateway.proving.collect import collect
from gateway.proving.collect.topics import read_topics
from gateway.proving.traffic.cast import Customer, Role
from gateway.proving.traffic.orders import facts_of
from gateway.proving.world.children import Child
from gateway.proving.world.networks import Network
from gateway.proving.world.world import World
from schemas.orders import PaymentOrder
from schemas.primitives import ConsentId, MerchantId, Money, OrderId
from schemas.topics import ORDERS, WAITING_ORDERS, clearing_topic, dispatch_topic, events_topic
from streams import schedule
from tests.support.entries import BCARD, SETTLED, SHOP_OF, Entry, Told, payment_ids
from tests.support.stack import Stack

WAIT_S: Final = 120.0
"""Far above what anything here takes, also on a busy machine; a wait that ends is one that has failed."""

POLL_S: Final = 0.05

OPEN_STATES: Final = ("sent", "unknown", "reversing")


_COUNTERS: Final = {row.name: row for row in METRICS if isinstance(row, CounterMetric)}


@dataclass
class Scene:
    """One world and everything that was ever sent into it.

    Attributes:
        client: sends as partners do.
        producer: of what no client makes: batches byte by byte, junk on inner topics.
        produced: as the check of the books wants it.
        cancelled: likewise the cancellations.
        disturbed: stages were killed or rewound: partners may be told things again.
        planted: places (topic, partition, offset) of junk that a test put on inner topics.
        down: processes that a test has ended and not started again.
    """

    world: World
    client: Client
    producer: Any
    session: aiohttp.ClientSession
    produced: list[Produced] = field(default_factory=list)
    cancelled: list[ProducedCancellation] = field(default_factory=list)
    disturbed: bool = False
    planted: set[tuple[str, int, int]] = field(default_factory=set)
    down: set[str] = field(default_factory=set)
    numbers: "count[int]" = field(default_factory=lambda: count(1))

    @property
    def stack(self) -> Stack:
        """The world's own servers, to be stopped and started."""
        world = self.world
        return Stack(world.name, world.plan.home, world.kafka_bootstrap_servers, world.postgres_dsn)

    # --- orders -------------------------------------------------------------------------------------------------------

    def order(
        self,
        network: str = BCARD,
        *,
        customer: Customer | None = None,
        merchant_id: str | None = None,
        order_id: str | None = None,
        consent_id: str | None = None,
        amount: Money | None = None,
        issued: timedelta = timedelta(0),
        valid_for: timedelta = timedelta(hours=1),
    ) -> PaymentOrder:
        """A good order under a consent with wide limits; each argument changes one thing."""
        number = next(self.numbers)
        plain = self.world.cast.of(Role.PLAIN)
        customer = customer or plain[number % len(plain)]
        now = datetime.now(UTC) + issued
        return PaymentOrder(
            partner_id=customer.terms.partner_id,
            order_id=OrderId(order_id or f"t-{number:06d}"),
            consent_id=ConsentId(consent_id or customer.terms.consent_id),
            merchant_id=MerchantId(merchant_id or SHOP_OF[network]),
            # Hundreds of won: no amount ends like one that the network declines.
            amount=amount or Money.of(1_000 + 100 * (number % 500), "KRW"),
            issued_at=now,
            expires_at=now + valid_for,
        )

    def entry(
        self,
        order: PaymentOrder,
        expected: frozenset[Ending] = SETTLED,
        *,
        label: str = "order",
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> Entry:
        """The order as its partner signs and sends it, with more headers where given."""
        record = signed(self.world.cast.partner(order.partner_id).signer, order)
        record = Outgoing(record.topic, record.key, record.value, [*record.headers, *headers])
        return Entry(record, facts_of(order), expected, label)

    def payments(self, n: int, network: str = BCARD, *, expected: frozenset[Ending] = SETTLED) -> list[Entry]:
        return [self.entry(self.order(network), expected) for _ in range(n)]

    async def send(self, entries: Sequence[Entry]) -> list[Produced]:
        """Produce all of them; return once Kafka has confirmed every one."""
        receipts = await self.client.send([e.record for e in entries])
        return self.sent(entries, [(at.partition, at.offset, at.timestamp_ms) for at in receipts])

    def sent(self, entries: Sequence[Entry], places: Sequence[tuple[int, int, int]]) -> list[Produced]:
        """Remember where on the orders topic these stand, and since when by the broker's clock."""
        sent = [
            Produced(*place, sha256(e.record.value).digest(), e.order, e.expected, e.label)
            for e, place in zip(entries, places, strict=True)
        ]
        self.produced.extend(sent)
        return sent

    # --- waiting ------------------------------------------------------------------------------------------------------

    async def until(
        self,
        holds: Callable[[], Awaitable[bool]],
        what: str | Callable[[], str],
        *,
        within_s: float = WAIT_S,
        poll_s: float = POLL_S,
    ) -> None:
        """Return once it holds; fail with what was waited for, and how things stand, when it does not in time.

        An answer that cannot be had because a server is away counts as no.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        while True:
            self.check_processes()
            try:
                if await holds():
                    return
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, aiohttp.ClientError, KafkaError):
                pass
            if loop.time() > deadline:
                missed = what if isinstance(what, str) else what()
                raise AssertionError(f"after {within_s:.0f} s still not: {missed}; payments: {await self.states()}")
            await asyncio.sleep(poll_s)

    async def until_states(
        self, entries: Sequence[Entry], *states: str, within_s: float = WAIT_S, poll_s: float = POLL_S
    ) -> None:
        """Every one of these orders is a payment in one of the states; an approved one may be settled by now."""
        wanted = {*states, "settled"} if "approved" in states else set(states)

        async def reached() -> bool:
            return await self.count_in(entries, *wanted) == len(entries)

        await self.until(reached, f"{len(entries)} orders {' or '.join(states)}", within_s=within_s, poll_s=poll_s)

    async def until_quiet(self, *, within_s: float = WAIT_S) -> None:
        """Everything that was sent is taken and committed, every payment has a result, every event is told."""
        unrest: list[str] = []

        async def quiet() -> bool:
            unrest[:] = await self.unrest()
            return not unrest

        await self.until(quiet, lambda: f"quiet ({', '.join(unrest)})", within_s=within_s)

    async def unrest(self) -> list[str]:
        """What has not come to its end yet, in words."""
        (row,) = await self.fetch(
            "SELECT EXISTS (SELECT FROM payment WHERE state = ANY ($1::text[])) AS open,"
            " EXISTS (SELECT FROM outbox o, outbox_cursor c WHERE (o.tx, o.id) > (c.tx, c.id)) AS untold",
            list(OPEN_STATES),
        )
        lags = {group: lag for group, lag in (await self.lags()).items() if lag}
        return [
            *(["payments without a result"] if row["open"] else []),
            *(["events that are not told"] if row["untold"] else []),
            *(f"{lag} records in {group}" for group, lag in lags.items()),
        ]

    async def until_ready(self, *names: str, within_s: float = WAIT_S) -> None:
        """These processes (all, where none is named) say that they are ready, and the networks are signed on."""

        async def ready() -> bool:
            for name in names or tuple(self.world.http):
                if (await self.readyz(name))[0] != 200:
                    return False
            return all([int((await n.state())["signed_on"]) > 0 for n in self.world.networks])

        await self.until(ready, f"{', '.join(names) or 'all'} ready", within_s=within_s)

    async def settle(self, *, within_s: float = WAIT_S) -> None:
        """Let everything end: wait for results, close the networks' cycles, wait for settlement."""
        await self.until_quiet(within_s=within_s)
        await asyncio.gather(*(n.close_cycle() for n in self.world.networks))

        async def cleared() -> bool:
            return not await self.fetch("SELECT 1 FROM payment WHERE state = 'approved' LIMIT 1")

        await self.until(cleared, "everything approved is settled", within_s=within_s)
        await self.until_quiet(within_s=within_s)

    # --- looking ------------------------------------------------------------------------------------------------------

    def network(self, network_id: str = BCARD) -> Network:
        return next(n for n in self.world.networks if n.network_id == network_id)

    async def counters(self, network_id: str = BCARD) -> Counter[str]:
        """What the simulated network counted."""
        return Counter((await self.network(network_id).state())["counters"])

    async def close_cycle(self, network_id: str, **faults: int) -> Path:
        """Close a network's clearing cycle with a file that is wrong in these ways; return the file."""
        url = f"http://127.0.0.1:{self.network(network_id).control_port}/cycle"
        async with self.session.post(url, json=faults) as answer:
            return Path((await answer.json())["path"])

    async def cut_links(self, network_id: str = BCARD) -> int:
        """Cut every TCP connection of a network; return how many there were."""
        url = f"http://127.0.0.1:{self.network(network_id).control_port}/links/cut"
        async with self.session.post(url) as answer:
            return int((await answer.json())["cut"])

    async def fetch(self, sql: str, *arguments: Any) -> list[Any]:
        connection = await asyncpg.connect(self.world.postgres_dsn)
        try:
            return list(await connection.fetch(sql, *arguments))
        finally:
            await connection.close()

    async def states(self) -> Counter[str]:
        """Payments by state; empty while PostgreSQL is away."""
        try:
            rows = await self.fetch("SELECT state, count(*) AS n FROM payment GROUP BY state")
        except (OSError, asyncpg.PostgresError):
            return Counter()
        return Counter({r["state"]: r["n"] for r in rows})

    async def states_of(self, entries: Sequence[Entry]) -> Counter[str]:
        """The payments of these orders by state."""
        sql = "SELECT state, count(*) AS n FROM payment WHERE payment_id = ANY ($1::uuid[]) GROUP BY state"
        return Counter({r["state"]: r["n"] for r in await self.fetch(sql, payment_ids(entries))})

    async def count_in(self, entries: Sequence[Entry], *states: str) -> int:
        found = await self.states_of(entries)
        return sum(found[s] for s in states)

    async def rows_of(self, entries: Sequence[Entry]) -> dict[UUID, Any]:
        rows = await self.fetch("SELECT * FROM payment WHERE payment_id = ANY ($1::uuid[])", payment_ids(entries))
        return {r["payment_id"]: r for r in rows}

    async def lags(self) -> dict[str, int]:
        """Consumer group → records that it has not committed yet."""
        networks = [n.network_id for n in self.world.networks]
        lags = {"mypay-initiation": await self._lag("mypay-initiation", [ORDERS])}
        lags["mypay-initiation:waiting"] = await self._lag("mypay-initiation:waiting", [WAITING_ORDERS])
        for network in networks:
            group = f"mypay-execution-{network}"
            lags[group] = await self._lag(group, [dispatch_topic(network)])
        lags["mypay-settlement"] = await self._lag("mypay-settlement", [clearing_topic(n) for n in networks])
        return lags

    async def _lag(self, group: str, topics: Sequence[str]) -> int:
        async with self.group_member(group, topics) as consumer:
            ends = await consumer.end_offsets(consumer.assignment())
            return sum([end - (await consumer.committed(p) or 0) for p, end in ends.items()])

    @asynccontextmanager
    async def group_member(self, group: str, topics: Sequence[str]) -> AsyncIterator[Any]:
        """A consumer that may read and write the offsets of a group without joining it."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.world.kafka_bootstrap_servers, group_id=group, enable_auto_commit=False
        )
        await consumer.start()
        try:
            partitions = [
                TopicPartition(topic, number)
                for topic in topics
                for number in await self.producer.partitions_for(topic)
            ]
            consumer.assign(partitions)
            yield consumer
        finally:
            await consumer.stop()

    async def readyz(self, name: str) -> tuple[int, Mapping[str, str]]:
        """HTTP status, and each check's word."""
        async with self.session.get(f"{self.world.http[name]}/readyz") as answer:
            return answer.status, (await answer.json())["checks"]

    async def healthz(self, name: str) -> int:
        """HTTP status."""
        async with self.session.get(f"{self.world.http[name]}/healthz") as answer:
            return answer.status

    async def metrics_text(self, name: str) -> str:
        async with self.session.get(f"{self.world.http[name]}/metrics") as answer:
            return await answer.text()

    async def outcomes(self, name: str) -> Counter[tuple[str, str, str]]:
        """(stage, outcome, reason) → items that the process ended so."""
        found: Counter[tuple[str, str, str]] = Counter()
        for family in text_string_to_metric_families(await self.metrics_text(name)):
            for sample in family.samples:
                if (row := _COUNTERS.get(sample.name)) is not None and sample.value:
                    found[reported_as(row, sample.labels)] += int(sample.value)
        return found

    async def rewind(self) -> None:
        """Make every stage take everything from the beginning again. They must not run."""
        self.disturbed = True
        networks = [n.network_id for n in self.world.networks]
        groups = {
            "mypay-initiation": [ORDERS],
            "mypay-initiation:waiting": [WAITING_ORDERS],
            **{f"mypay-execution-{n}": [dispatch_topic(n)] for n in networks},
            "mypay-settlement": [clearing_topic(n) for n in networks],
        }
        for group, topics in groups.items():
            async with self.group_member(group, topics) as consumer:
                # A member with a name of its own never leaves: the group lets others write once it was silent for long.
                while True:
                    try:
                        await consumer.commit(dict.fromkeys(consumer.assignment(), 0))
                    except CommitFailedError:
                        await asyncio.sleep(0.2)
                    else:
                        break

    async def told(self, entries: Sequence[Entry]) -> dict[UUID, list[Told]]:
        """What the partners' topics say about each of these orders' payments, in order."""
        partners = sorted({e.order.partner_id for e in entries if e.order})
        found: dict[UUID, list[Told]] = {i: [] for i in payment_ids(entries)}
        topics = [events_topic(p) for p in partners]
        for event in await self.read(*topics):
            payment_id = event.body.get("payment_id")
            if payment_id and (known := found.get(UUID(payment_id))) is not None:
                known.append(event)
        return found

    async def read(self, *topics: str) -> list[Told]:
        """Every event on these topics, each partition's in their order."""
        records = read_topics(self.world.kafka_bootstrap_servers, topics)
        return [Told(r.topic, r.key, dict(r.headers), r.value, json.loads(r.value)) async for r in records]

    # --- judging ------------------------------------------------------------------------------------------------------

    async def evidence(self) -> Evidence:
        world = self.world
        evidence = await collect(
            self.produced,
            postgres_dsn=world.postgres_dsn,
            kafka_bootstrap_servers=world.kafka_bootstrap_servers,
            partners=[p.partner_id for p in world.cast.partners],
            ledgers=world.ledgers,
            dead_letter_keys=world.dead_letter_keys,
        )
        evidence.cancellations = list(self.cancelled)
        evidence.dead_letters = [
            d for d in evidence.dead_letters if (d.topic, d.partition, d.offset) not in self.planted
        ]
        return evidence

    async def check_books(self) -> tuple[Evidence, Endings]:
        """Check everything that was ever done in this world from three sides; fail with what does not agree."""
        evidence = await self.evidence()
        endings = endings_of(evidence, redelivery=self.disturbed)
        checked = check_books(evidence, endings, redelivery=self.disturbed)
        assert not [c for c in checked if not c.ok], _told_wrong(checked)
        return evidence, endings

    # --- processes ----------------------------------------------------------------------------------------------------

    def process(self, name: str) -> Child:
        """A stage, or a simulated network as ``network bcard``."""
        return next(c for c in (*self.world.stages, *self.world.simulators) if c.name == name)

    def check_processes(self) -> None:
        """Fail where a process has ended that no test has ended."""
        for child in (*self.world.simulators, *self.world.stages):
            if child.name not in self.down:
                child.check()

    async def kill(self, *names: str) -> None:
        """SIGKILL, all at once; return when they are gone."""
        self.disturbed = True
        self.down.update(names)
        for name in names:
            self.process(name).kill()
        await asyncio.gather(*(self.process(n).stop(WAIT_S) for n in names))

    async def stop(self, *names: str) -> dict[str, int | None]:
        """SIGTERM, all at once; return the exit codes."""
        self.down.update(names)
        codes = await asyncio.gather(*(self.process(n).stop(WAIT_S) for n in names))
        return dict(zip(names, codes, strict=True))

    def start(self, *names: str) -> None:
        """Start them again."""
        for name in names:
            self.process(name).start()
        self.down.difference_update(names)


def _told_wrong(checked: Sequence[Checked]) -> str:
    return "\n".join(f"{c.name}: {c.violation_count} wrong: {'; '.join(c.violations)}" for c in checked if not c.ok)


@asynccontextmanager
async def open_scene(world: World) -> AsyncIterator[Scene]:
    producer = AIOKafkaProducer(
        bootstrap_servers=world.kafka_bootstrap_servers, enable_idempotence=True, acks="all", linger_ms=5
    )
    await producer.start()
    try:
        async with (
            open_client(KafkaSettings(world.kafka_bootstrap_servers)) as client,
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
        ):
            yield Scene(world, client, producer, session)
    finally:
        await producer.stop()


@asynccontextmanager
async def the_schedule(scene: Scene, **more: object) -> AsyncIterator[None]:
    """The schedule process's own work, as long as the block lasts, with these settings besides."""
    given = {k.removeprefix("MYPAY_").lower(): v for k, v in scene.world.environment.items() if k.startswith("MYPAY_")}
    own = {"schedule_interval_s": 0.1, "http_port": 0, "log_level": "error", **more}
    settings = Settings(**given | own)  # type: ignore[arg-type]
    stopping = asyncio.Event()
    async with started_process(settings, "schedule") as parts, asyncio.TaskGroup() as tasks:
        tasks.create_task(schedule.run(parts, stopping))
        yield
        stopping.set()
