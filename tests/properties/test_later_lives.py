"""Any later life of an order and its refunds: lost and late answers, a cancellation, clearing and its corrections.

The host books whatever comes whenever it comes, and repeats its answers to reversals. In the end it tells all: then its
books and ours are the same, nothing more went back than was taken, and what it cleared rightly is settled.
"""

import asyncio
from datetime import timedelta
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.identity.door import Authentic
from gateway.messaging.records import Record
from gateway.network.exchange import FinancialRequest, NetworkRequest, Operation, UnmatchedAnswer
from gateway.orders.cancellations import CancellationKind
from gateway.orders.kinds import bring_to_end
from gateway.payments.unknown.verdicts import UnknownPolicy
from gateway.proving.memory import Behaviour, Fate
from gateway.proving.memory.host import Entry, EntryState
from gateway.settlement.rules import BreakKind
from schemas.clearing import CLEARING_TYPE, ClearingBatch, ClearingKind, ClearingRecord
from schemas.codec import encode
from schemas.consents import Period, PeriodLimit
from schemas.envelope import Envelope, read_envelope, write_envelope
from schemas.primitives import NetworkId
from tests.properties.test_late_originals import ForgetfulHost
from tests.support.builders import NETWORK, NOW, dispatched_record, numbered_order
from tests.support.domain_samples import consent, krw, purpose
from tests.support.instructions import cancellation, dispatched_refund, instruction_record, refund
from tests.support.rig import Rig

LIMIT: Final = PeriodLimit(period=Period.DAY, max_amount=krw(500_000))
PAID: Final = 10_000
ROUNDS: Final = 12
SECOND: Final = 100
"""Added to the number of a record: another one of the same payment."""


class World:
    """Everybody who looks after the order, and the host.

    Each of what may happen takes a fate: of the messages that are sent, or of how the host clears.
    """

    def __init__(self, policy: UnknownPolicy, amounts: list[int]) -> None:
        self.fate = Fate.ANSWERED
        self.on_the_way: list[FinancialRequest] = []
        self.answers: list[UnmatchedAnswer] = []
        self.rig = rig = Rig(self._fares)
        rig.host = rig.network.host = ForgetfulHost()
        rig.database.put_consent(consent(payment=purpose(period_limits=(LIMIT,))))
        rig.execution = rig.new_execution(policy=policy)
        rig.settlement = rig.new_settlement(too_early_s=0.0)
        self.reversals, self.inquiries = rig.new_reversals("worker-1"), rig.new_inquiries("worker-1")
        self.late = rig.new_late_answers(policy=policy)
        self.cancellations = CancellationKind(store=rig.store, cut_overs={}, observer=rig.observer, clock=rig.clock)
        self._amounts = iter(amounts)
        self._offset = 0
        self._numbers: dict[str, int] = {}
        self._minutes = 0

    def _fares(self, request: NetworkRequest) -> Behaviour:
        if isinstance(request, FinancialRequest) and self.fate is Fate.REQUEST_LOST:
            self.on_the_way.append(request)
        return Behaviour(self.fate)

    def _next(self) -> int:
        self._offset += 1
        return self._offset

    async def order(self, fate: Fate) -> None:
        """It is sent."""
        self.fate = fate
        await self.rig.execute([dispatched_record(numbered_order(1, amount=krw(PAID)))])

    async def refund(self, fate: Fate) -> None:
        """Another refund of it is sent."""
        self.fate = fate
        number = self._next()
        await self.rig.execute([dispatched_refund(refund(number, next(self._amounts, 1)), number)])

    async def arrive(self, _: Fate) -> None:
        """One of those on their way comes to the host."""
        if self.on_the_way:
            request = self.on_the_way.pop()
            answer, trace = self.rig.host.handle(request), request.trace
            at = f"{trace.transmitted_at:%m%d%H%M%S}"
            self.answers.append(UnmatchedAnswer(NetworkId(NETWORK), "0210", trace.terminal_id, trace.stan, at, answer))

    async def answer(self, _: Fate) -> None:
        """The last answer comes, late or once more."""
        if self.answers:
            self.late.take(self.answers[-1])
            await self.late.work()

    async def follow_up(self, fate: Fate) -> None:
        """What is due is asked, and undone."""
        self.fate = fate
        await self.inquiries.work()
        await self.reversals.work()
        self.rig.clock.advance(30)

    async def cancel(self, _: Fate) -> None:
        """The partner cancels it."""
        number = self._next()
        message = cancellation(number, order_id="order-1")
        record = instruction_record(message, SECOND + number)
        one = Authentic(record, read_envelope(record.headers), message, bytes([number]), NOW)
        await bring_to_end(self.cancellations, [one], NOW)

    async def sweep(self, _: Fate) -> None:
        """Cancellations that waited are carried out."""
        await self.rig.waiting.work()

    async def take_over(self, _: Fate) -> None:
        """Another worker takes over what is in flight."""
        await self.rig.take_over()

    async def clear(self, fate: Fate) -> None:
        """A cycle's file: all that stands there, with a record of it wrong, twice, or in another's place."""
        entries = [e for e in self.rig.host.entries.values() if e.state is EntryState.APPROVED]
        records = [self._record(e) for e in entries]
        if records and fate is Fate.ANSWER_LOST:
            records[0] = records[0].model_copy(update={"amount_minor": records[0].amount_minor + 1})
        if records and fate is Fate.REQUEST_LOST:
            records.append(records[0].model_copy(update={"record_no": records[0].record_no + SECOND}))
        if len(records) > 1 and fate is Fate.NOT_SENT:
            records[1] = records[0].model_copy(update={"record_no": records[1].record_no})
        if records:
            await self.rig.settlement.take([self._message(records)])

    def _record(self, entry: Entry) -> ClearingRecord:
        trace = entry.trace
        number = self._numbers.setdefault(trace.rrn, len(self._numbers) + 1)
        return ClearingRecord(
            record_no=number,
            kind=ClearingKind(entry.operation.value),
            rrn=trace.rrn,
            stan=trace.stan,
            terminal_id=trace.terminal_id,
            acceptor_id="ACCEPTOR1",
            amount_minor=entry.amount_minor,
            currency=entry.currency,
        )

    def _message(self, records: list[ClearingRecord]) -> Record:
        self._minutes += 1
        at = NOW + timedelta(minutes=self._minutes)
        batch = ClearingBatch(network_id=NETWORK, cycle_id="c1", chunk=1, records=tuple(records))
        headers = write_envelope(Envelope(f"cl-{self._minutes}", "/network", CLEARING_TYPE, at))
        ms = int(NOW.timestamp() * 1000)
        return Record(f"mypay.clearing.{NETWORK}", 0, self._minutes, ms, b"c1", encode(batch), tuple(headers))

    async def match(self, _: Fate) -> None:
        """What was a break is looked at again."""
        await self.rig.settlement.match_again()

    async def settle(self) -> None:
        """All comes at last, and is cleared rightly."""
        while self.on_the_way:
            await self.arrive(Fate.ANSWERED)
        for answer in self.answers:
            self.late.take(answer)
            await self.late.work()
        await self.take_over(Fate.ANSWERED)
        for _ in range(ROUNDS):
            await self.follow_up(Fate.ANSWERED)
            await self.sweep(Fate.ANSWERED)
        await self.clear(Fate.ANSWERED)
        while await self.rig.settlement.match_again():
            pass

    def check(self) -> None:
        """The books agree."""
        rig = self.rig
        entries = {e.trace.rrn: e for e in rig.host.entries.values()}
        standing = {rrn for rrn, e in entries.items() if e.state is EntryState.APPROVED}
        payments = {p.trace.rrn: p for p in rig.database.payments.rows.values() if p.trace}
        assert set(entries) <= set(payments)
        for rrn, payment in payments.items():
            expected = ("settled",) if rrn in standing else ("reversed", "declined", "rejected")
            assert payment.state.value in expected, (payment.state, rrn in standing)
        bought = sum(entries[r].amount_minor for r in standing if entries[r].operation is Operation.PURCHASE)
        given = sum(entries[r].amount_minor for r in standing if entries[r].operation is Operation.REFUND)
        assert given <= bought
        assert set(rig.balances().values()) <= {0}
        assert sum(u.taken_minor for u in rig.used()) == bought
        # Of two records of one payment that agree in all but their numbers either one settles it.
        for rrn in standing:
            rows = [row for row in rig.database.clearing.rows.values() if row.record.rrn == rrn]
            found = [row.found.kind for row in rows if row.found is not None]
            assert found == [BreakKind.DUPLICATE] * (len(rows) - 1), rows
        assert not [c for c in rig.database.cancellations.rows.values() if c.is_open]
        assert not [f for f in rig.database.reversals.rows.values() if f.closed_at is None]
        assert not [f for f in rig.database.inquiries.rows.values() if f.closed_at is None]


FATES: Final = (Fate.ANSWERED, Fate.ANSWER_LOST, Fate.REQUEST_LOST, Fate.NOT_SENT)
ACTIONS: Final = (
    *("refund", "refund", "arrive", "answer", "follow_up", "follow_up"),
    *("cancel", "sweep", "clear", "clear", "match", "take_over"),
)


@settings(max_examples=200, deadline=None)
@given(
    first=st.sampled_from(FATES[:3]),
    actions=st.lists(st.tuples(st.sampled_from(ACTIONS), st.sampled_from(FATES)), max_size=14),
    amounts=st.lists(st.integers(min_value=1, max_value=PAID), max_size=6),
    policy=st.sampled_from(UnknownPolicy),
)
def test_in_the_end_its_books_and_ours_are_the_same(
    first: Fate, actions: list[tuple[str, Fate]], amounts: list[int], policy: UnknownPolicy
) -> None:
    async def run() -> None:
        world = World(policy, amounts)
        await world.order(first)
        for name, fate in actions:
            await getattr(world, name)(fate)
        await world.settle()
        world.check()

    asyncio.run(run())
