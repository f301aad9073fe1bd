"""One consent, several execution workers on a real PostgreSQL: limits hold exactly, and nothing follows an end.

Each worker has connections of its own and takes what a Kafka partition would give it, some records twice.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import asyncpg
import pytest

from gateway.app.postgres import PostgresStore
from gateway.app.registries import open_registries
from gateway.consents.changing import change_consent_status
from gateway.consents.rules.consent import Consent, ConsentCommand
from gateway.database.migrate import migrate
from gateway.messaging.records import Record
from gateway.network.exchange import CardData, ExchangeResult, NetworkRequest
from gateway.payments.execution import ExecutionService
from gateway.proving.memory import (
    MemoryCardNetwork,
    MemoryHost,
    MemoryVault,
)
from schemas.codec import decode
from schemas.consents import Alignment, ConsentStatus, PaymentPurpose, Period, PeriodLimit
from schemas.events import ConsentEvent
from schemas.primitives import NetworkId
from tests.support.builders import NETWORK, dispatched_record, numbered_order
from tests.support.consents import ISSUER, SUBJECT, ConsentRig, digest, document
from tests.support.domain_samples import USE, krw, merchant, purpose, terms
from tests.support.stages import execution_stage, timers
from tests.support.tokens import put_token

pytestmark = pytest.mark.integration

WORKERS = 4
SEEDS = 120
RACES = 40
AMOUNT = 1_000


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


class SilentNetwork(MemoryCardNetwork):
    """A network that never answers: whatever was sent stays in flight."""

    def submit(self, request: NetworkRequest, *, send_before: float, done: Callable[[ExchangeResult], None]) -> None:
        self.host.received.append(request)
        self.release(1)


@dataclass
class World:
    dsn: str
    connection: "asyncpg.Connection[Any]"
    stores: list[PostgresStore] = field(default_factory=list)
    next_order: int = 0

    def worker(self, number: int, network: MemoryCardNetwork) -> ExecutionService:
        vault = MemoryVault({USE.owned: CardData("4111111111111111", "2912")})
        store = self.stores[number]
        return execution_stage(store, network, vault, clock=SystemClock(), worker=f"worker-{number}").service

    async def add_consent(self, consent_id: str, of: PaymentPurpose, **fields: Any) -> Consent:
        now = datetime.now(UTC)
        defaults = {"valid_from": now - timedelta(days=3), "valid_until": now + timedelta(days=300)}
        made = terms(consent_id=consent_id, payment=of, **(defaults | fields))
        async with open_registries(self.dsn) as registries:
            await registries.consents.add_consents([(made, ConsentStatus.AUTH)])
        return Consent(made, 1, ConsentStatus.AUTH)

    def orders(self, consent_id: str, count: int) -> list[Record]:
        now = datetime.now(UTC)
        records = []
        for _ in range(count):
            self.next_order += 1
            placed = numbered_order(
                self.next_order,
                consent_id=consent_id,
                amount=krw(AMOUNT),
                issued_at=now,
                expires_at=now + timedelta(minutes=5),
            )
            records.append(dispatched_record(placed, offset=self.next_order, at=now))
        return records

    async def sent(self, consent_id: str) -> list[asyncpg.Record]:
        rows: list[asyncpg.Record] = await self.connection.fetch(
            "SELECT payment_id, consent_version FROM payment "
            "WHERE consent_id = $1 AND state <> 'rejected' ORDER BY payment_id",
            consent_id,
        )
        return rows


@pytest.fixture(scope="module")
async def world(module_database: str) -> AsyncIterator[World]:
    await migrate(module_database)
    async with AsyncExitStack() as stack:
        connection = await asyncpg.connect(module_database)
        stack.push_async_callback(connection.close)
        world = World(module_database, connection)
        for _ in range(WORKERS + 1):
            store = PostgresStore(module_database, pool_size=3)
            await store.start()
            stack.push_async_callback(store.stop)
            world.stores.append(store)
        async with open_registries(module_database) as registries:
            await registries.directory.upsert_merchants([merchant()])
        await put_token(module_database, *USE)
        yield world


@asynccontextmanager
async def writing(service: ExecutionService) -> AsyncIterator[None]:
    task = asyncio.create_task(service.results.run())
    try:
        yield
    finally:
        task.cancel()


def dealt(dice: random.Random, records: Sequence[Record]) -> list[list[list[Record]]]:
    """For each worker batches of any size; every record goes to one worker, and some to a second one too."""
    hands: list[list[Record]] = [[] for _ in range(WORKERS)]
    for record in records:
        for worker in dice.sample(range(WORKERS), 1 + (dice.random() < 0.2)):
            hands[worker].append(record)
    batches = []
    for hand in hands:
        cut: list[list[Record]] = []
        while hand:
            size = dice.randint(1, 6)
            cut.append(hand[:size])
            del hand[:size]
        batches.append(cut)
    return batches


async def play(
    worker: ExecutionService,
    batches: Sequence[Sequence[Record]],
    dice: random.Random,
    *,
    around: datetime | None = None,
) -> None:
    """Hand a worker its batches: as fast as it takes them, or spread so that a moment lies among them."""
    begun = datetime.now(UTC)
    for number, batch in enumerate(batches):
        if around is not None:
            at = begun + 1.5 * (around - begun) * number / len(batches)
            await asyncio.sleep((at - datetime.now(UTC)).total_seconds())
        if dice.random() < 0.3:
            await asyncio.sleep(dice.random() / 500)
        await worker.take(batch)


LIMITS: list[Callable[[int], PaymentPurpose]] = [
    lambda k: purpose(lifetime_count=k),
    lambda k: purpose(lifetime_amounts=(krw(k * AMOUNT + AMOUNT - 1),)),
    # A year's window: the test may run over a midnight, not over a year's end of its own consent.
    lambda k: purpose(period_limits=(PeriodLimit(period=Period.YEAR, alignment=Alignment.CONSENT, max_count=k),)),
    lambda k: purpose(
        period_limits=(
            PeriodLimit(period=Period.YEAR, alignment=Alignment.CONSENT, max_amount=krw(k * AMOUNT)),
            PeriodLimit(period=Period.MONTH, alignment=Alignment.CONSENT, max_count=k + 1),
        )
    ),
    lambda k: purpose(single_use=True),
]


async def test_a_consent_for_k_payments_is_paid_k_times(world: World) -> None:
    host = MemoryHost()
    networks = [MemoryCardNetwork(NetworkId(NETWORK), host) for _ in range(WORKERS)]
    workers = [world.worker(n, network) for n, network in enumerate(networks)]
    async with AsyncExitStack() as stack:
        for worker in workers:
            await stack.enter_async_context(writing(worker))
        for seed in range(SEEDS):
            dice = random.Random(seed)
            make = dice.choice(LIMITS)
            of = make(dice.randint(1, 9))
            k = 1 if of.single_use else int(_most(of))
            name = f"k-{seed}"
            await world.add_consent(name, of)
            before = len(host.entries)
            hands = dealt(dice, world.orders(name, 2 * k + 6))
            await asyncio.gather(*(play(w, h, dice) for w, h in zip(workers, hands, strict=True)))
            for network, worker in zip(networks, workers, strict=True):
                await network.wait_idle()
                await worker.results.written()
            assert len(await world.sent(name)) == k, f"seed {seed}"
            assert len(host.entries) - before == k, f"seed {seed}"
            usage = await world.connection.fetch(
                "SELECT reserved_count + consumed_count FROM consent_usage WHERE consent_id = $1", name
            )
            assert {tuple(row) for row in usage} == {(k,)}, f"seed {seed}"


def _most(of: PaymentPurpose) -> int:
    if of.lifetime_count:
        return of.lifetime_count
    if of.lifetime_amounts:
        return of.lifetime_amounts[0].minor // AMOUNT
    first = of.period_limits[0]
    return first.max_count or (first.max_amount.minor // AMOUNT if first.max_amount else 0)


async def _act(world: World, name: str, action: str) -> None:
    store, clock = world.stores[-1], SystemClock()
    if action == "expire":
        expiry = timers(store, clock).expiry
        while not await expiry.expire():  # noqa: ASYNC110 - time tells nobody
            await asyncio.sleep(0.005)
        return
    if action == "amend":
        rig = ConsentRig()
        rig.store, rig.clock = store, clock  # type: ignore[assignment]
        rig.database.identity_links.rows.clear()
        await world.connection.execute(
            "INSERT INTO identity_link VALUES ($1, $2, 'customer-1', now()) ON CONFLICT DO NOTHING", ISSUER, SUBJECT
        )
        rig.service = rig.new_service()
        row = await world.connection.fetchrow("SELECT terms FROM consent WHERE consent_id = $1", name)
        assert row is not None
        old = decode(type(terms()), row["terms"].encode())
        new = old.model_copy(update={"payment": purpose(max_per_payment=(krw(40_000),))})
        proof = rig.proof("amend", digest(document(new)), consent_id=name, jti=name)
        await rig.take(rig.amendment(new, proven=False, authentication=proof))
        return
    key = ("partner-1", name)
    await change_consent_status(store, clock, key, ConsentCommand(action))  # type: ignore[arg-type]


@pytest.mark.parametrize("action", ["revoke", "suspend", "expire", "amend"])
async def test_no_intent_follows_the_end_of_what_allowed_it(world: World, action: str) -> None:
    """The event, written by the very transaction that ends it, names every payment that was ever sent before."""
    host = MemoryHost()
    workers = [world.worker(n, SilentNetwork(NetworkId(NETWORK), host)) for n in range(WORKERS)]
    cut_short = untouched = 0
    making = timedelta(0)
    for seed in count():
        if seed >= RACES and (cut_short > RACES // 4 or seed >= 10 * RACES):
            break
        dice = random.Random(f"{action} {seed}")
        name = f"{action}-{seed}"
        began = datetime.now(UTC)
        # As long after it is made as may be, also on a busy machine.
        end = began + making + timedelta(milliseconds=dice.randint(40, 120))
        await world.add_consent(name, purpose(), **({"valid_until": end} if action == "expire" else {}))
        making = datetime.now(UTC) - began
        hands = dealt(dice, world.orders(name, 40))

        async def act_at_some_time(dice: random.Random = dice, name: str = name) -> None:
            await asyncio.sleep(dice.random() / 40)
            await _act(world, name, action)

        around = end if action == "expire" else None
        jobs: list[Coroutine[Any, Any, None]] = [
            play(w, h, dice, around=around) for w, h in zip(workers, hands, strict=True)
        ]
        await asyncio.gather(*jobs, act_at_some_time())
        rows = await world.connection.fetch(
            "SELECT event_type, body FROM outbox WHERE key = $1 "
            "OR key IN (SELECT payment_id::text FROM payment WHERE consent_id = $1) ORDER BY tx, id",
            name,
        )
        [told] = [decode(ConsentEvent, r["body"]) for r in rows if r["event_type"].startswith("kr.mypay.consent.")]
        sent = await world.sent(name)
        before = [r["payment_id"] for r in sent if r["consent_version"] == 1]
        assert sorted(told.in_flight) == before, f"seed {seed}"
        types = [r["event_type"] for r in rows]
        after = types[types.index("kr.mypay.consent.changed.v1") :]
        if action != "amend":
            assert len(before) == len(sent), f"seed {seed}"
            assert "kr.mypay.payment.sent.v1" not in after, f"seed {seed}"
        cut_short += 0 < len(before) < 40
        untouched += not before
    # Else nothing was raced.
    assert cut_short > RACES // 4, (cut_short, untouched)
