"""The intake of ``mypay.orders``: signature → decode → what it is → judged, written and handed on, kind by kind.

What the kinds are is not known here (:mod:`gateway.orders.kinds`). Every record ends in exactly one way: as
its kind ends it; as a fault that its partner is told of (:mod:`gateway.orders.faults`); or parked as a dead letter,
of which nobody is told, for nobody is known to have sent it (:mod:`gateway.identity.door`).
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, assert_never

from gateway.base.errors import NotAuthenticatedError
from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.base.tracing import exemplar
from gateway.database.unit import Store
from gateway.identity.arriving import arriving
from gateway.identity.door import Authentic, Door, Faulty, Nobodys
from gateway.identity.parking import park_nobodys
from gateway.identity.signing import KeySource, SignatureVerifier
from gateway.identity.vouching import Vouching
from gateway.messaging.records import DeadLetters, Record
from gateway.orders.faults import tell_faults
from gateway.orders.kinds import AnyKind, FaultAnswer, Precedence, SignedInstruction, bring_to_end, settle
from gateway.orders.store import FaultUnit

Message = Authentic[SignedInstruction]


@dataclass(slots=True)
class _Batch:
    """A batch, sorted by what each record is. Kinds stand in the order of their first messages."""

    by_kind: dict[AnyKind, list[Message]] = field(default_factory=dict)
    faults: list[Faulty] = field(default_factory=list)
    nobodys: list[Nobodys] = field(default_factory=list)


class OrderIntake:
    """Takes in what partners send on ``mypay.orders``.

    Attributes:
        kinds: everything that they may send there.

    Raises:
        ValueError: two kinds have one type.
    """

    def __init__(
        self,
        kinds: Sequence[AnyKind],
        *,
        store: Store[FaultUnit],
        keys: KeySource,
        verifier: SignatureVerifier,
        dead_letters: DeadLetters,
        observer: Observer,
        clock: Clock,
    ) -> None:
        self.kinds = kinds
        self._kinds: dict[str, AnyKind] = {}
        models: dict[str, type[SignedInstruction]] = {}
        for kind in kinds:
            for type_, model in kind.models.items():
                if type_ in models:
                    raise ValueError(f"{type_} is of two kinds")
                self._kinds[type_], models[type_] = kind, model
        self._verifier = verifier
        self._door = Door(verifier=verifier, models=models)
        self._store = store
        self._keys = keys
        self._dead_letters = dead_letters
        self._observer = observer
        self._clock = clock

    async def take(self, records: Sequence[Record]) -> None:
        """Bring every record of a batch to its end. Once this returns, the offsets may be committed."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        now = self._clock.now()
        with arriving(self._observer, await self._door.read_all(records, now, self._keys)) as read:
            await self._bring_to_ends(await self._sort(read), now)
        self._observer.batch("initiation", size=len(records), seconds=loop.time() - started)

    async def _bring_to_ends(self, batch: _Batch, now: datetime) -> None:
        vouched = Vouching(self._verifier, self._clock)
        kinds = sorted(batch.by_kind.items(), key=lambda item: item[0].precedence)
        written: list[tuple[AnyKind, Any]] = []
        for kind, messages in kinds:
            if kind.precedence is not Precedence.AFTERWARDS:
                written.append((kind, await settle(kind, messages, now, vouched)))
        if batch.faults:
            await until_done(lambda: self._tell_faults(batch.faults, now))
        for kind, work in written:
            await kind.hand_on(work)
        self._tell_hop([m for kind, messages in kinds if kind.precedence is Precedence.ORDERS for m in messages])
        # Only now: nobody waits for what becomes of it, and there may be much.
        if batch.nobodys:
            parked = [(n.record, n.error) for n in batch.nobodys]
            await until_done(lambda: self._dead_letters.park("initiation", parked))
        for kind, messages in kinds:
            if kind.precedence is Precedence.AFTERWARDS:
                await bring_to_end(kind, messages, now, vouched)
        await park_nobodys(self._dead_letters, self._observer, "initiation", vouched.lapsed)
        self._report(batch)

    def _tell_hop(self, orders: Sequence[Message]) -> None:
        now = self._clock.now()
        self._observer.hops(
            "order_to_dispatch",
            [(now - m.ordered_at).total_seconds() for m in orders],
            exemplar=exemplar(self._observer.traces, lambda: (m.envelope.traceparent for m in orders)),
        )

    async def _sort(self, read: Sequence[Message | Faulty | Nobodys]) -> _Batch:
        batch = _Batch()
        accepted = await self._accepted([r for r in read if isinstance(r, Authentic) and r.lapsed is not None])
        for one in read:
            match one:
                case Nobodys():
                    batch.nobodys.append(one)
                case Faulty():
                    batch.faults.append(one)
                case Authentic() if one.lapsed is not None and one.reference not in accepted:
                    batch.nobodys.append(Nobodys(one.record, NotAuthenticatedError(one.lapsed)))
                case Authentic():
                    batch.by_kind.setdefault(self._kinds[one.envelope.type], []).append(one)
                case _:
                    assert_never(one)
        return batch

    async def _accepted(self, lapsed: Sequence[Message]) -> frozenset[str]:
        """Of messages under keys that vouch for nothing new: those that were accepted before. What they did stands."""
        accepted: frozenset[str] = frozenset()
        for kind in {self._kinds[m.envelope.type]: None for m in lapsed}:
            own = [m for m in lapsed if m.envelope.type in kind.models]
            accepted |= await until_done(lambda kind=kind, own=own: kind.accepted(own))  # type: ignore[misc]
        return accepted

    async def _tell_faults(self, faults: Sequence[Faulty], now: datetime) -> None:
        async with self._store.transaction() as uow:
            await tell_faults(uow, faults, self._answer, now)

    def _answer(self, fault: Faulty, now: datetime) -> FaultAnswer | None:
        kind = self._kinds.get(fault.type_ or "")
        return kind.answer_fault(fault, now) if kind is not None else None

    def _report(self, batch: _Batch) -> None:
        count = self._observer.count
        for outcome, reasons in (
            ("refused", Counter(f.reason.code.value for f in batch.faults)),
            ("dead_letter", Counter(n.error.reason.code.value for n in batch.nobodys)),
        ):
            for reason, n in reasons.items():
                count("initiation", outcome, reason=reason, n=n)
        for partner_id, n in Counter(f.partner_id for f in batch.faults).items():
            count("partner", "refused", reason=partner_id, n=n)
        for fault in batch.faults:
            self._observer.step(
                "order_refused",
                routine=False,
                partner_id=fault.partner_id,
                reference=fault.reference,
                reason=fault.reason.code.value,
            )
        for kind, messages in batch.by_kind.items():
            if kind.precedence is not Precedence.ORDERS:
                for type_, n in Counter(m.envelope.type for m in messages).items():
                    count("initiation", "instruction", reason=type_, n=n)
