"""Any interleaving of an order, its cancellation, its refunds and what waits: the network's books never go wrong."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.adapters.memory.host import EntryState
from gateway.domain.exchange import Operation
from gateway.services.instructions import Instruction
from schemas.consents import Period, PeriodLimit
from schemas.envelope import read_envelope
from tests.builders import dispatched_record, numbered_order
from tests.support.instructions import cancellation, dispatched_refund, instruction_record, refund
from tests.support.races import Crowd
from tests.unit.domain_samples import NOW, consent, krw, purpose

LIMIT = PeriodLimit(period=Period.DAY, max_amount=krw(500_000))
PAID = 10_000


def new_crowd(turns: list[int]) -> Crowd:
    source = iter(turns)
    world = Crowd(lambda: next(source, 0))
    world.database.put_consent(consent(payment=purpose(period_limits=(LIMIT,))))
    return world


def cancel(number: int) -> Instruction:
    message = cancellation(number, order_id="order-1")
    record = instruction_record(message, 100 + number)
    return Instruction(message, record, read_envelope(record.headers), bytes([number]), NOW)


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
    assert sum(u.consumed_minor for u in world.rig.used()) == bought
    assert not any(u.reserved_minor for u in world.rig.used())
    assert not any(c.is_open for c in world.database.cancellations.rows.values())
    assert all(len(world.rig.host.by_rrn(p.trace.rrn)) == 1 for p in payments if p.trace)


@settings(max_examples=150, deadline=None)
@given(
    turns=st.lists(st.integers(min_value=0, max_value=7), max_size=120),
    amounts=st.lists(st.integers(min_value=1, max_value=PAID + 1), max_size=5),
    paid_first=st.booleans(),
    cancellations=st.integers(min_value=0, max_value=2),
    workers=st.integers(min_value=1, max_value=3),
)
def test_whatever_comes_first_the_books_agree(
    turns: list[int], amounts: list[int], *, paid_first: bool, cancellations: int, workers: int
) -> None:
    async def run() -> None:
        world = new_crowd(turns)
        order = dispatched_record(numbered_order(1, amount=krw(PAID)))
        refunds = [dispatched_refund(refund(n, minor), n) for n, minor in enumerate(amounts, 1)]
        async with world.results():
            if paid_first:
                await world.executions[0].take([order])
            await asyncio.gather(
                *([] if paid_first else [world.executions[0].take([order])]),
                *(world.executions[n % workers].take([r]) for n, r in enumerate(refunds)),
                *(world.intakes[n % workers].take([cancel(n)], NOW) for n in range(cancellations)),
                *(sweep.work() for sweep in world.sweeps[:workers]),
            )
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
