"""A host that books an order whenever it arrives, and answers a repeated reversal as it answered the first one.

Whatever comes before what, its answer to the order comes at last: then what stands there is what stands here.
"""

import asyncio
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.network.exchange import FinancialRequest, NetworkRequest, ReversalRequest, UnmatchedAnswer
from gateway.payments.rules.lifecycle import PaymentEventKind
from gateway.payments.rules.payment import Change
from gateway.payments.transitions import apply_changes
from gateway.payments.unknown.verdicts import UnknownPolicy
from gateway.proving.memory import Behaviour, Fate
from gateway.proving.memory.host import EntryState, MemoryHost, TraceKey, trace_key
from schemas.consents import Period, PeriodLimit
from schemas.primitives import NetworkId
from tests.support.builders import NETWORK, dispatched_record, numbered_order
from tests.support.domain_samples import consent, krw, purpose
from tests.support.rig import Rig

LIMIT: Final = PeriodLimit(period=Period.DAY, max_amount=krw(500_000))
PAID: Final = 10_000
GIVES_UP: Final = 20
"""Rounds after which a world that is left in peace has settled."""


class ForgetfulHost(MemoryHost):
    """Does not remember that an order was reversed before it came; repeats its answers to reversals by their STANs."""

    def __init__(self) -> None:
        super().__init__()
        self._answered: dict[TraceKey, str] = {}

    def _reverse(self, request: ReversalRequest, code: str) -> str:
        key = trace_key(request.trace)
        if key not in self._answered:
            self._answered[key] = super()._reverse(request, code)
            self._reversed_before_arrival.clear()
        return self._answered[key]


class World:
    """One order that is on its way for as long as the test says, and everybody who looks after it."""

    def __init__(self, policy: UnknownPolicy, code: str) -> None:
        self._sent: list[FinancialRequest] = []
        self._code = code
        self._answer: UnmatchedAnswer | None = None
        self.fate = Fate.ANSWERED
        self.rig = rig = Rig(self._fares)
        rig.host = rig.network.host = ForgetfulHost()
        rig.database.put_consent(consent(payment=purpose(period_limits=(LIMIT,))))
        rig.execution = rig.new_execution(policy=policy)
        self.reversals, self.inquiries = rig.new_reversals("worker-1"), rig.new_inquiries("worker-1")
        self.late = rig.new_late_answers(policy=policy)

    def _fares(self, request: NetworkRequest) -> Behaviour:
        if not isinstance(request, FinancialRequest):
            return Behaviour(self.fate)
        self._sent.append(request)
        return Behaviour(Fate.REQUEST_LOST)

    async def arrive(self) -> None:
        """The order comes to the host."""
        if self._answer is None:
            (request,) = self._sent
            answer, trace = self.rig.host.handle(request, self._code), request.trace
            at = f"{trace.transmitted_at:%m%d%H%M%S}"
            self._answer = UnmatchedAnswer(NetworkId(NETWORK), "0210", trace.terminal_id, trace.stan, at, answer)

    async def answer(self) -> None:
        """Its answer comes, perhaps once more."""
        if self._answer is not None:
            self.late.take(self._answer)
            await self.late.work()

    async def follow_up(self, fate: Fate) -> None:
        """What is due is asked, and undone."""
        self.fate = fate
        await self.inquiries.work()
        await self.reversals.work()
        self.rig.clock.advance(30)

    async def meet(self) -> None:
        """While a reversal's answer is on its way back, the order comes to the host, and is answered first."""
        self.fate = Fate.ANSWERED
        self.rig.faults.hold("network.answer")
        undoing = asyncio.create_task(self.reversals.work())
        reached = asyncio.create_task(self.rig.faults.reached("network.answer"))
        await asyncio.wait((undoing, reached), return_when=asyncio.FIRST_COMPLETED)
        reached.cancel()
        await self.arrive()
        await self.answer()
        self.rig.faults.open("network.answer")
        await undoing
        self.rig.clock.advance(30)

    async def cancel(self) -> None:
        """The customer wants it undone, if it is approved."""
        change = Change(self.rig.payment(1).key, PaymentEventKind.CANCELLED)
        async with self.rig.store.transaction() as uow:
            await apply_changes(uow, [change], now=self.rig.clock.now())

    async def settle(self) -> None:
        """All comes at last."""
        await self.arrive()
        await self.answer()
        for _ in range(GIVES_UP):
            await self.follow_up(Fate.ANSWERED)


ACTIONS: Final = st.one_of(
    st.sampled_from(["arrive", "answer", "meet", "cancel"]),
    st.sampled_from([Fate.ANSWERED, Fate.ANSWER_LOST, Fate.REQUEST_LOST, Fate.NOT_SENT]),
)


@settings(max_examples=120, deadline=None)
@given(
    actions=st.lists(ACTIONS, max_size=10),
    policy=st.sampled_from(UnknownPolicy),
    code=st.sampled_from(["00", "51"]),
)
def test_what_stands_at_the_host_is_what_stands_here(
    actions: list[str | Fate], policy: UnknownPolicy, code: str
) -> None:
    async def run() -> None:
        world = World(policy, code)
        await world.rig.execute([dispatched_record(numbered_order(1, amount=krw(PAID)))])
        for action in actions:
            if isinstance(action, Fate):
                await world.follow_up(action)
            else:
                await getattr(world, action)()
        await world.settle()
        (entry,) = world.rig.host.entries.values()
        stands = entry.state is EntryState.APPROVED
        payment = world.rig.payment(1)
        assert payment.state.value in (("approved",) if stands else ("reversed", "declined"))
        assert [u.taken_minor for u in world.rig.used()] == [PAID if stands else 0]
        rows = (*world.rig.database.reversals.rows.values(), *world.rig.database.inquiries.rows.values())
        assert all(row.closed_at is not None for row in rows)

    asyncio.run(run())
