"""Random lives of payments: whatever happens in whatever order, books and limits end where the state says."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.consents.rules.limits import Usage, with_given_back, with_taken
from gateway.network.exchange import Operation
from gateway.payments.rules.ledger import TransferKind, transfers_of
from gateway.payments.rules.lifecycle import TERMINAL, LimitEffect, PaymentEventKind, PaymentState, transition

EVENTS = st.lists(st.sampled_from(PaymentEventKind), max_size=40)
# Such a walk mostly stays where it is; these numbers choose among the events that do something.
STEPS = st.lists(st.integers(0, 10_000), min_size=1, max_size=12)

# What a payment that rests in the state holds: owed by the network, taken of the consent's limits.
HOLDS = {
    None: (0, 0),
    PaymentState.REJECTED: (0, 0),
    PaymentState.SCHEDULED: (0, 0),
    PaymentState.SENT: (0, 1),
    PaymentState.UNKNOWN: (0, 1),
    PaymentState.APPROVED: (1, 1),
    PaymentState.REVERSING: (1, 1),
    PaymentState.DECLINED: (0, 0),
    PaymentState.REVERSED: (0, 0),
    PaymentState.SETTLED: (0, 1),
}


class Life:
    """One payment's books, kept the way a service keeps them."""

    def __init__(self, operation: Operation, amount_minor: int) -> None:
        self.operation = operation
        self.amount = amount_minor
        self.state: PaymentState | None = None
        self.usage = Usage()
        self.balances: Counter[str] = Counter()
        self.version = 0
        self.reversal_queued = False
        self.posted: set[TransferKind] = set()

    def happens(self, event: PaymentEventKind) -> None:
        done = transition(self.state, event)
        if done is None:
            return
        effects = {
            LimitEffect.NONE: lambda usage, _: usage,
            LimitEffect.TAKE: with_taken,
            LimitEffect.GIVE_BACK: with_given_back,
        }
        self.usage = effects[done.limit](self.usage, self.amount)
        for row in transfers_of(
            done.transfers,
            operation=self.operation,
            network_id="net-a",
            merchant_id="shop-1",
            amount_minor=self.amount,
            currency="KRW",
            version=self.version + 1,
        ):
            # What is said to be no repetition is the first of its kind: the ledger takes it for that.
            assert row.repeated or row.kind is TransferKind.SETTLEMENT_UNDONE or row.kind not in self.posted
            self.posted.add(row.kind)
            self.balances[row.debit] += row.amount_minor
            self.balances[row.credit] -= row.amount_minor
        self.reversal_queued |= done.reverse
        self.state = done.state
        self.version += 1

    def check(self) -> None:
        owed, taken = HOLDS[self.state]
        sign = 1 if self.operation is Operation.PURCHASE else -1
        assert sum(self.balances.values()) == 0
        assert self.balances["network:net-a:receivable"] == sign * owed * self.amount
        assert self.balances["merchant:shop-1:payable"] == -sign * owed * self.amount
        assert self.usage == Usage(taken * self.amount, taken)
        if self.state is PaymentState.REVERSING:
            assert self.reversal_queued


@given(st.sampled_from(Operation), st.integers(1, 10**12), EVENTS)
@settings(max_examples=300, deadline=None)
def test_any_events_leave_books_and_limits_as_the_state_says(
    operation: Operation, amount: int, events: list[PaymentEventKind]
) -> None:
    life = Life(operation, amount)
    for event in events:
        life.happens(event)
        life.check()


@given(st.sampled_from(Operation), st.integers(1, 10**12), STEPS)
@settings(max_examples=300, deadline=None)
def test_a_life_that_goes_on_ends_with_nothing_open(operation: Operation, amount: int, steps: list[int]) -> None:
    life = Life(operation, amount)
    for step in steps:
        possible = [event for event in PaymentEventKind if transition(life.state, event) is not None]
        if not possible:
            break
        life.happens(possible[step % len(possible)])
        life.check()
    ended = life.state in TERMINAL
    # What is settled goes on only where the network corrects its clearing.
    ways_on = {event for event in PaymentEventKind if transition(life.state, event) is not None}
    assert ended == (not ways_on - {PaymentEventKind.UNCLEARED})
    if ended:
        assert not any(life.balances.values())
        assert (life.usage == Usage(amount, 1)) == (life.state is PaymentState.SETTLED)
