"""Whole ways on fakes, from the partner's record to its last event, with the books checked from three sides."""

import asyncio
from collections import Counter, defaultdict

import pytest

from gateway.base.errors import PublisherUnavailableError, StoreConflictError, StoreUnavailableError
from gateway.consents.rules.limits import Usage
from gateway.messaging.records import Outgoing, Record
from gateway.network.exchange import NetworkRequest, ReversalRequest
from gateway.observability.metrics import HOPS
from gateway.payments.rules.lifecycle import TERMINAL
from gateway.proving.memory import Behaviour, Fate
from gateway.proving.memory.host import EntryState
from schemas.clearing import ClearingBatch
from schemas.consents import Period, PeriodLimit
from schemas.envelope import read_envelope
from schemas.events import PaymentEvent
from schemas.orders import PaymentOrder
from schemas.topics import ORDERS, dispatch_topic, events_topic
from tests.support.builders import NETWORK, clearing_message, clearing_record, numbered_order, order_record
from tests.support.domain_samples import consent, krw, purpose
from tests.support.rig import TAMPERED, Rig

EVENTS = events_topic("partner-1")
LIMIT = PeriodLimit(period=Period.DAY, max_amount=krw(500_000))


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.database.put_consent(consent(payment=purpose(period_limits=(LIMIT,))))
    return rig


def place(rig: Rig, *records: Record) -> None:
    """Write partners' records to Kafka, as they are."""
    for record in records:
        rig.kafka.write(Outgoing(record.topic, record.key, record.value, record.headers), partition=record.partition)


async def work(rig: Rig) -> None:
    """Every stage in turn, until nothing moves any more."""
    orders, dispatched = rig.consumer(ORDERS, "initiation"), rig.consumer(dispatch_topic(NETWORK), "execution")
    while batch := await orders.take(50):
        await rig.initiation.take(batch)
        await orders.commit()
    while batch := await dispatched.take(50):
        await rig.execute(batch)
        await dispatched.commit()
    await rig.network.wait_quiet()
    while await rig.reversals.work():
        rig.clock.advance(30)
    await rig.relay_all()


async def test_each_hop_of_an_orders_way_is_told_once(rig: Rig) -> None:
    orders = [numbered_order(n) for n in (1, 2, 3)]
    place(rig, *(order_record(order, offset=n) for n, order in enumerate(orders)))
    rig.clock.advance(1)
    await work(rig)
    told = Counter(hop for hop, _ in rig.observer.walked)
    # Of each payment two changes were told: that it was sent, and the answer.
    assert told == dict.fromkeys(HOPS, 3) | {"change_to_event": 6}
    assert {seconds for hop, seconds in rig.observer.walked if hop == "order_to_dispatch"} == {1.0}


async def clear(rig: Rig) -> None:
    """The network clears what stands in its books."""
    payments = {p.trace.rrn: p for p in rig.database.payments.rows.values() if p.trace}
    standing = [e for e in rig.host.entries.values() if e.state is EntryState.APPROVED]
    records = [clearing_record(payments[e.trace.rrn], n) for n, e in enumerate(standing, 1)]
    if records:
        body = ClearingBatch(network_id=NETWORK, cycle_id="c1", chunk=1, records=tuple(records))
        await rig.settlement.take([clearing_message(body)])
    await rig.relay_all()


def check_books(rig: Rig, produced: dict[str, PaymentOrder]) -> None:
    """What was ordered, what the gateway's tables say, and what the network booked must agree to the last won."""
    payments = list(rig.database.payments.rows.values())
    assert {p.order_id for p in payments} == set(produced)
    for payment in payments:
        assert payment.state in TERMINAL
        assert payment.amount_minor == produced[payment.order_id].amount.minor
        entries = rig.host.by_rrn(payment.trace.rrn) if payment.trace else []
        assert len(entries) <= 1
        stands = sum(e.amount_minor for e in entries if e.state is EntryState.APPROVED)
        assert stands == (payment.amount_minor if payment.state == "settled" else 0)
    settled = sum(p.amount_minor for p in payments if p.state == "settled")
    assert rig.host.standing_minor() == ({"KRW": settled} if settled else {})
    assert all(balance == 0 for balance in rig.balances().values())
    with_limit = [p for p in payments if p.state == "settled" and p.windows]
    used = Usage(sum(p.amount_minor for p in with_limit), len(with_limit))
    assert rig.used() <= {used}
    check_events(rig)


def check_events(rig: Rig) -> None:
    """Each version of each payment is told once (a relay may repeat it), in order, and the last one is how it ended."""
    versions: dict[str, list[int]] = defaultdict(list)
    last: dict[str, str] = {}
    for record in rig.kafka.records(EVENTS):
        type_ = read_envelope(record.headers).type
        if ".payment." not in type_ or type_.endswith("reported.v1"):
            continue
        event = PaymentEvent.model_validate_json(record.value)
        if event.version not in versions[event.order_id]:
            versions[event.order_id].append(event.version)
            last[event.order_id] = event.state
    for payment in rig.database.payments.rows.values():
        assert versions[payment.order_id] == list(range(1, payment.version + 1))
        assert last[payment.order_id] == payment.state.value


def check_counts(rig: Rig) -> None:
    """What came of each payment was counted once, whatever it went through; its clearing counts elsewhere."""
    counted: Counter[str] = Counter()
    for (stage, state, _), n in rig.observer.counts.items():
        if stage == "payment":
            counted[state] += n
    ended = Counter("approved" if s == "settled" else s for s in rig.states().values())
    assert counted == ended
    at_network = sum(n for (stage, *_), n in rig.observer.of_networks.items() if stage == "payment")
    assert at_network == sum(p.network_id is not None for p in rig.database.payments.rows.values())


async def test_an_order_is_paid_settled_and_told(rig: Rig) -> None:
    order = numbered_order(1)
    place(rig, order_record(order))
    await work(rig)
    await clear(rig)
    assert rig.states() == {"order-1": "settled"}
    types = [read_envelope(r.headers).type for r in rig.kafka.records(EVENTS)]
    assert types == [f"kr.mypay.payment.{state}.v1" for state in ("sent", "approved", "settled")]
    check_books(rig, {"order-1": order})


def by_number(request: NetworkRequest) -> Behaviour:
    """Amounts say how the network fares: of 100 orders some are declined, lost, answered late, twice or not at all."""
    if isinstance(request, ReversalRequest):
        return Behaviour(Fate.ANSWER_LOST if request.amount_minor % 3 == 0 and not request.repeat else Fate.ANSWERED)
    return {
        6: Behaviour(code="51"),
        1: Behaviour(Fate.REQUEST_LOST),
        2: Behaviour(Fate.ANSWER_LOST),
        3: Behaviour(Fate.ANSWERED_LATE),
        4: Behaviour(Fate.ANSWERED_TWICE),
        5: Behaviour(Fate.NOT_SENT),
    }.get(request.amount_minor % 20, Behaviour())


def mixed(count: int) -> tuple[dict[str, PaymentOrder], list[Record]]:
    """Orders, and their records with repeats, forgeries and junk among them."""
    produced: dict[str, PaymentOrder] = {}
    records: list[Record] = []
    for number in range(1, count + 1):
        order = numbered_order(number, amount=krw(10_000 + number))
        if number % 10 == 0:
            order = numbered_order(number, consent_id="nobody")
        produced[order.order_id] = order
        record = order_record(order)
        records.append(record)
        if number % 7 == 0:
            records.append(record)
        if number % 11 == 0:
            records.append(order_record(numbered_order(number, amount=krw(1)), signature=TAMPERED))
        if number % 13 == 0:
            records.append(order_record(b"junk", key=b"consent-1"))
    return produced, records


async def test_a_mixed_day_ends_with_every_order_ended_once_and_the_books_agreeing(rig: Rig) -> None:
    rig.network.script = by_number
    produced, records = mixed(120)
    place(rig, *records)
    await work(rig)
    await clear(rig)
    check_books(rig, produced)
    check_counts(rig)
    assert set(rig.states().values()) == {"settled", "declined", "rejected", "reversed"}
    assert len(rig.dead_letters.parked) == 10
    refused = [r for r in rig.kafka.records(EVENTS) if read_envelope(r.headers).type == "kr.mypay.order.refused.v1"]
    assert len(refused) == 9


async def test_everything_delivered_twice_ends_the_same(rig: Rig) -> None:
    rig.network.script = by_number
    produced, records = mixed(60)
    place(rig, *records)
    await work(rig)
    # New groups have committed nothing: every record comes again, also to execution.
    for topic, take in ((ORDERS, rig.initiation.take), (dispatch_topic(NETWORK), rig.execute)):
        again = rig.consumer(topic, "again")
        while batch := await again.take(20):
            await take(batch)
    await work(rig)
    await clear(rig)
    await clear(rig)
    check_books(rig, produced)
    check_counts(rig)


OUTAGE = (StoreUnavailableError("away"), None, StoreConflictError("lost"))
PLACES = ("store.begin", "store.commit", "payments.insert", "payments.lock", "consents.lock", "consents.add_usage")


async def test_outages_everywhere_lose_and_double_nothing(rig: Rig) -> None:
    rig.network.script = by_number
    for place_ in PLACES:
        rig.faults.plan(place_, *OUTAGE)
    rig.faults.plan("publisher.publish", PublisherUnavailableError("away"))
    rig.faults.plan("publisher.confirmed", None, PublisherUnavailableError("away"))
    produced, records = mixed(40)
    place(rig, *records)
    await work(rig)
    await clear(rig)
    assert rig.faults.pending == 0
    check_books(rig, produced)
    check_counts(rig)


async def run_worker_and_kill_it(rig: Rig, place_: str, visit: int) -> bool:
    """Run an execution process that dies at a place; False if it came to the end of its work before."""
    rig.faults.hold(place_, visit=visit)
    network = rig.new_network(by_number)
    service = rig.new_execution(network)
    consumer = rig.consumer(dispatch_topic(NETWORK), "execution")

    async def execute() -> None:
        while batch := await consumer.take(5):
            await service.take(batch)
            await consumer.commit()

    async def finish() -> None:
        await executing
        await network.wait_idle()
        await service.results.written()

    executing, writing = asyncio.create_task(execute()), asyncio.create_task(service.results.run())
    dying, finishing = asyncio.create_task(rig.faults.reached(place_)), asyncio.create_task(finish())
    await asyncio.wait({dying, finishing}, return_when=asyncio.FIRST_COMPLETED)
    killed = dying.done()
    # The process is gone at once; what it had written to its sockets arrives all the same.
    network.crash(requests_arrive=True)
    tasks = (executing, writing, dying, finishing)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    rig.faults.open(place_)
    await network.wait_quiet()
    return killed


CRASHES = [
    "consents.lock",
    "payments.insert",
    "store.commit",
    "store.committed",
    "consumer.commit",
    "network.leave",
    "network.arrive",
    "network.answer",
    "payments.update",
    "consents.add_usage",
]


@pytest.mark.parametrize("visit", [1, 2])
@pytest.mark.parametrize("place_", CRASHES)
async def test_a_worker_killed_anywhere_is_recovered_by_the_next(rig: Rig, place_: str, visit: int) -> None:
    rig.network.script = by_number
    produced, records = mixed(20)
    place(rig, *records)
    orders = rig.consumer(ORDERS, "initiation")
    while batch := await orders.take(50):
        await rig.initiation.take(batch)
        await orders.commit()

    killed = await run_worker_and_kill_it(rig, place_, visit)
    assert killed or visit > 1
    await work(rig)
    await rig.take_over()
    await work(rig)
    await clear(rig)
    check_books(rig, produced)
    for entry in rig.host.entries.values():
        assert entry.times_seen == 1
