"""Workers that meet on one payment: several of each stage over one database and one network host."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from gateway.database.unit import Store
from gateway.identity.door import Authentic
from gateway.orders.cancellations import CancellationKind
from gateway.orders.kinds import bring_to_end
from gateway.payments.execution import ExecutionService
from gateway.payments.rules.payment import Payment, PaymentKey
from gateway.proving.memory import Database, MemoryStore
from schemas.cancellation import PaymentCancellation
from schemas.primitives import PartnerId, payment_id_of
from tests.support.builders import dispatched_record, numbered_order
from tests.support.domain_samples import NOW, krw
from tests.support.faults import Faults
from tests.support.rig import Rig
from tests.support.stages import timers


class Jitter(Faults):
    """A boundary that lets others go first as often as ``turns`` says."""

    def __init__(self, turns: Callable[[], int]) -> None:
        super().__init__()
        self._turns = turns

    async def __call__(self, name: str) -> None:
        for _ in range(self._turns()):
            await asyncio.sleep(0)
        await super().__call__(name)


class Crowd:
    """Several workers of execution and of the intake's cancellations.

    Args:
        store: the database; None: one in memory whose every step may let others go first.
    """

    def __init__(self, turns: Callable[[], int], store: Store | None = None, *, workers: int = 3) -> None:
        jitter = Jitter(turns)
        self.rig = Rig(faults=jitter)
        if isinstance(store, MemoryStore):
            store = MemoryStore(store.database, jitter)
        self.store: Store = store or self.rig.store
        self.rig.store = self.store  # type: ignore[assignment]
        self._networks = [self.rig.new_network(faults=jitter) for _ in range(workers)]
        self.executions = [
            self.rig.new_execution(network, worker=f"worker-{n}") for n, network in enumerate(self._networks)
        ]
        self.intakes = [
            CancellationKind(store=self.store, cut_overs={}, observer=self.rig.observer, clock=self.rig.clock)
            for _ in range(workers)
        ]
        self.sweeps = [
            timers(self.store, self.rig.clock, self.rig.observer, batch_max=10).cancellations for _ in range(workers)
        ]
        self.reversals = self.rig.new_reversals("worker-0", self._networks[0])

    @property
    def database(self) -> Database:
        """The database in memory."""
        return self.rig.database

    async def cancel(self, *cancellations: Authentic[PaymentCancellation], worker: int = 0) -> None:
        """A worker of the intake takes cancellations, together."""
        await bring_to_end(self.intakes[worker], cancellations, NOW)

    async def pay(self, minor: int = 10_000) -> None:
        """Order-1 is paid."""
        async with self.results(self.executions[:1]):
            await self.executions[0].take([dispatched_record(numbered_order(1, amount=krw(minor)))])

    @asynccontextmanager
    async def results(self, executions: Sequence[ExecutionService] | None = None) -> AsyncIterator[None]:
        """What is sent in the block has its result written when it ends."""
        async with AsyncExitStack() as stack:
            for execution in executions or self.executions:
                await stack.enter_async_context(self.rig.results(execution))
            yield
            for network in self._networks:
                await network.wait_idle()
            for execution in executions or self.executions:
                await execution.results.written()

    async def settle_what_is_open(self) -> None:
        """Carry out what waits, and reverse what is to be reversed."""
        while await self.sweeps[0].work():
            pass
        while await self.reversals.work():
            self.rig.clock.advance(30)

    async def payments(self, *order_ids: str) -> dict[str, Payment]:
        """Stored payments by their orders."""
        partner = PartnerId("partner-1")
        keys: list[PaymentKey] = [(partner, payment_id_of(partner, o)) for o in order_ids]
        async with self.store.reading() as uow:
            return {p.order_id: p for p in (await uow.payments.find(keys)).values()}
