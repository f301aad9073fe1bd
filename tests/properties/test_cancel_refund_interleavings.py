"""Any interleaving of an order, its cancellation, its refunds and what waits: the network's books never go wrong."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.identity.door import Authentic
from gateway.network.exchange import Operation
from gateway.proving.memory.host import EntryState
from schemas.cancellation import PaymentCancellation
from schemas.consents import Period, PeriodLimit
from schemas.envelope import read_envelope
from schemas.reasons import Reason
from tests.support.builders import dispatched_record, numbered_order
from tests.support.domain_samples import NOW, consent, krw, purpose
from tests.support.instructions import cancellation, dispatched_refund, instruction_record, refund
from tests.support.races import Crowd

LIMIT = PeriodLimit(period=Period.DAY, max_amount=krw(500_000))
PAID = 10_000


def new_crowd(turns: list[int]) -> Crowd:
    source = iter(turns)
    world = Crowd(lambda: next(source, 0))
    world.database.put_consent(consent(payment=purpose(period_limits=(LIMIT,))))
    return world


def cancel(number: int) -> Authentic[PaymentCancellation]:
    message = cancellation(number, order_id="order-1")
    record = instruction_record(message, 100 + number)
    return Authentic(record, read_envelope(record.headers), message, bytes([number]), NOW)


def check(world: Crowd) -> None:
    """Nothing more went back than was taken; what was undone was not also given back; the ledger is the network's."""
    payments = list(world.database.payments.rows.values())
    standing = [e for e in world.rig.host.entries.values() if e.state is EntryState.APPROVED]
    bought = sum(e.amount_minor for e in standing if e.operation is Operation.PURCHASE)
    given = sum(e.amount_minor for e in standing if e.operation is Operation.REFUND)
    assert given <= bought
    ours = {p.trace.rrn: p.amount_minor for p in payments if p.state == "approved" and p.trace}
    assert ours == {e.trace.rrn: e.amount_minor for e in standing}
    assert {p.state.value for p in payments} <= {"approved", "rejected", "reversed"}
    assert sorted(world.rig.balances().values()) in ([], [given - bought, bought - given])
    # What was paid counts in its limit exactly while it stands, and a refund gives none back.
    assert sum(u.taken_minor for u in world.rig.used()) == bought
    states = {p.key: p.state.value for p in payments}
    for row in world.database.cancellations.rows.values():
        assert not row.is_open
        if not isinstance(row.outcome, Reason):
            assert states.get(row.payment_key) in (None, "rejected", "reversed")
    assert all(len(world.rig.host.by_rrn(p.trace.rrn)) == 1 for p in payments if p.trace)


ACTIONS = st.one_of(
    st.just(("order", 0)),
    st.tuples(st.just("cancel"), st.integers(min_value=1, max_value=2)),
    st.tuples(st.just("refund"), st.integers(min_value=1, max_value=PAID + 1)),
    st.just(("sweep", 0)),
)


@settings(max_examples=300, deadline=None)
@given(
    turns=st.lists(st.integers(min_value=0, max_value=7), max_size=120),
    # What is in one group happens at once; one group's results are written before the next begins.
    groups=st.lists(st.lists(ACTIONS, min_size=1, max_size=4), min_size=1, max_size=5),
)
def test_whatever_comes_first_the_books_agree(turns: list[int], groups: list[list[tuple[str, int]]]) -> None:
    async def run() -> None:
        world = new_crowd(turns)
        offsets = iter(range(1, 1000))

        async def act(worker: int, kind: str, value: int) -> None:
            offset = next(offsets)
            match kind:
                case "order":
                    order = numbered_order(1, amount=krw(PAID))
                    await world.executions[worker].take([dispatched_record(order, offset=offset)])
                case "cancel":
                    await world.cancel(cancel(value), worker=worker)
                case "refund":
                    await world.executions[worker].take([dispatched_refund(refund(offset, value), offset)])
                case _:
                    await world.sweeps[worker].work()

        for group in groups:
            async with world.results():
                await asyncio.gather(*(act(n % 3, *action) for n, action in enumerate(group)))
        await world.settle_what_is_open()
        check(world)

    asyncio.run(run())


@settings(max_examples=100, deadline=None)
@given(
    turns=st.lists(st.integers(min_value=0, max_value=7), max_size=120),
    amounts=st.lists(st.integers(min_value=1, max_value=PAID), min_size=2, max_size=8),
)
def test_concurrent_refunds_are_never_above_the_original_and_never_refused_without_need(
    turns: list[int], amounts: list[int]
) -> None:
    async def run() -> None:
        world = new_crowd(turns)
        await world.pay(PAID)
        refunds = [dispatched_refund(refund(n, minor), n) for n, minor in enumerate(amounts, 1)]
        async with world.results():
            await asyncio.gather(*(e.take(refunds[n::3]) for n, e in enumerate(world.executions)))
        check(world)
        stored = [p for p in world.database.payments.rows.values() if p.operation is Operation.REFUND]
        assert len(stored) == len(amounts)
        given_back = sum(p.amount_minor for p in stored if p.state == "approved")
        assert all(given_back + p.amount_minor > PAID for p in stored if p.state == "rejected")

    asyncio.run(run())
