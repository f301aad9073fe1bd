"""Settlement: clearing records → SETTLED or a break.

One transaction a clearing message, keyed by (network, cycle, record number): importing a file twice changes nothing,
and a corrected record supersedes the one before (:mod:`gateway.settlement.corrections`).
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import groupby
from typing import Final, assert_never

from gateway.base.digest_words import word_of
from gateway.base.pace import Pace
from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.database.unit import Store
from gateway.messaging.records import DeadLetters, Record
from gateway.outbox.store import OutboxEvent
from gateway.payments.rules.lifecycle import PaymentEventKind, PaymentState
from gateway.payments.rules.payment import Change, Payment, PaymentKey
from gateway.payments.telling import tell_steps
from gateway.payments.transitions import Applied, apply_changes
from gateway.settlement.corrections import SortedRecords, sort_records
from gateway.settlement.messages import read_clearing
from gateway.settlement.rules import Break, ClearedPayment, Matched, match_record, positions
from gateway.settlement.store import Outcome, SettlementUnit
from schemas.clearing import ClearingBatch, ClearingRecord
from schemas.codec import encode
from schemas.events import CycleSettled, EventType
from schemas.primitives import MerchantId, NetworkId
from schemas.topics import SETTLEMENTS


@dataclass(frozen=True, slots=True)
class SettlementSettings:
    """Bounds of settlement; each has its reason.

    Attributes:
        too_early_s: how long a record waits for a payment that is still SENT or UNKNOWN, from when it became so: its
            result is on the way to Postgres, or an inquiry finds it, or its worker died and recovery takes it over
            within this time. Not from when the record came: all networks' records stand in one row, and one that never
            answers and clears all the same would hold the others up for as long again with each of its messages.
        too_early_poll_s: how often it is looked at again meanwhile.
        match_again_max: breaks looked at in one transaction, once their payments are approved after all.
        rests: after a message it rests for so many times as long as that took, and for ``rest_s_max`` at most. The
            messages of a cycle come all at once, and payments would meet a machine that does little else.
        calm_s: what stands on its topic for longer than this is behind: then it does not rest.
    """

    too_early_s: float = 90.0
    too_early_poll_s: float = 0.2
    match_again_max: int = 500
    rests: float = 3.0
    rest_s_max: float = 0.4
    calm_s: float = 1.5


_OUTCOME_OPEN: Final = frozenset({PaymentState.SENT, PaymentState.UNKNOWN})


@dataclass(slots=True)
class _Outcomes:
    matched: list[Matched] = field(default_factory=list)
    breaks: list[tuple[ClearingRecord, PaymentKey | None, Break]] = field(default_factory=list)
    sorted_records: SortedRecords = field(default_factory=SortedRecords)

    def by_record(self) -> dict[int, Outcome]:
        """What became of each record, by its number."""
        matched = {m.record.record_no: ((m.payment.partner_id, m.payment.payment_id), None) for m in self.matched}
        return {**matched, **{record.record_no: (key, found) for record, key, found in self.breaks}}

    @property
    def first_record(self) -> int:
        """Number of the first record among these."""
        return min(r.record_no for r in (*(m.record for m in self.matched), *(b[0] for b in self.breaks)))


class _TooEarlyError(Exception):
    """A cleared payment's result has not reached Postgres yet."""


class SettlementService:
    """Matches what networks cleared with what the gateway knows."""

    def __init__(
        self,
        *,
        store: Store[SettlementUnit],
        dead_letters: DeadLetters,
        observer: Observer,
        clock: Clock,
        settings: SettlementSettings,
    ) -> None:
        self._store = store
        self._dead_letters = dead_letters
        self._observer = observer
        self._clock = clock
        self._settings = settings
        self._pace = Pace(0.0, rest_s_max=settings.rest_s_max, rests=settings.rests)

    async def take(self, records: Sequence[Record]) -> None:
        """Settle a batch of clearing messages. Once this returns, the offsets may be committed."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        for record in records:
            read = read_clearing(record, self._clock.now())
            if read.bad:
                self._observer.count("settlement", "dead_letter", n=len(read.bad))
                bad = read.bad
                await until_done(lambda bad=bad: self._dead_letters.park("settlement", bad))  # type: ignore[misc]
            if read.batch is not None:
                if self._clock.now().timestamp() - record.timestamp_ms / 1000 < self._settings.calm_s:
                    await self._pace.wait()
                self._pace.begin()
                await self._settle(read.batch, read.created_at)
                self._pace.end()
        self._observer.batch("settlement", size=len(records), seconds=loop.time() - started)

    async def match_again(self) -> int:
        """Settle payments whose clearing had become a break and would match now; return how many.

        Their outcome was found later, or another record that had settled them was corrected. What does not match then
        is a break of another kind: a second record of the payment, another amount, or cleared though it is undone.
        """

        async def match() -> tuple[int, Applied]:
            async with self._store.transaction() as uow:
                found = await uow.clearing.moved_since(self._settings.match_again_max)
                applied = Applied()
                locked = await _locked(uow, found)
                for (network_id, cycle_id), group in groupby(found, key=lambda f: f[:2]):
                    named = locked[network_id]
                    records = [record for _, _, record in group]
                    matched = await self._match_cycle(uow, network_id, cycle_id, records, named)
                    named |= {p.trace.rrn: p for p in matched.changed if p.trace}
                    applied.changed += matched.changed
                return len(found), applied

        found, applied = await until_done(match)
        self._tell_settled(applied)
        self._observer.count("settlement", "break_matched", n=len(applied.changed))
        return found if applied.changed else 0

    async def _match_cycle(
        self,
        uow: SettlementUnit,
        network_id: NetworkId,
        cycle_id: str,
        records: Sequence[ClearingRecord],
        locked: Mapping[str, Payment],
    ) -> Applied:
        now = self._clock.now()
        judged = _match(records, locked, await _acceptors(uow, locked))
        if judged.breaks:
            # That they are breaks was told. What kind they are now people see: why they were is over.
            told = [(record.record_no, key, found) for record, key, found in judged.breaks]
            await uow.clearing.write_outcomes(network_id, cycle_id, told)
        outcomes = _Outcomes(matched=judged.matched)
        if not outcomes.matched:
            return Applied()
        applied = await apply_changes(uow, _cleared(outcomes), now=now, locked=_by_key(locked))
        event_id = f"matched:{outcomes.matched[0].payment.payment_id}:{applied.changed[0].version}"
        await self._record(uow, (network_id, cycle_id, 0), outcomes, now, event_id=event_id)
        return applied

    async def _settle(self, batch: ClearingBatch, created_at: datetime) -> None:
        loop = asyncio.get_running_loop()
        patience_ends = loop.time() + self._settings.too_early_s
        while True:
            patient = loop.time() < patience_ends
            try:
                settle = partial(self._settle_once, batch, created_at, patient=patient)
                outcomes, applied = await until_done(settle)
            except _TooEarlyError:
                await asyncio.sleep(self._settings.too_early_poll_s)
                continue
            self._report(batch, outcomes, applied)
            return

    async def _settle_once(
        self, batch: ClearingBatch, created_at: datetime, *, patient: bool
    ) -> tuple[_Outcomes, Applied]:
        now = self._clock.now()
        async with self._store.transaction() as uow:
            sorted_records = await sort_records(uow, batch, created_at=created_at, now=now)
            if not sorted_records.to_match:
                return _Outcomes(sorted_records=sorted_records), Applied()
            rrns = sorted({r.rrn for r in sorted_records.to_match})
            locked = await uow.clearing.payments_by_rrn(batch.network_id, rrns)
            if patient and any(self._may_be_settled_soon(p, now) for p in locked.values()):
                raise _TooEarlyError
            outcomes = _match(sorted_records.to_match, locked, await _acceptors(uow, locked))
            outcomes.sorted_records = sorted_records
            applied = await apply_changes(uow, _cleared(outcomes), now=now, locked=_by_key(locked))
            await _write_new(uow, batch, outcomes, created_at)
            # By its first new record: a corrected file of the same cycle counts its chunks anew.
            # No digits stand beside digits: twelve that do may look like a card number.
            event_id = f"{batch.network_id}:{batch.cycle_id}:r{outcomes.first_record}"
            if sorted_records.corrections:
                event_id += f":{_moment(created_at)}:{_digest(batch)}"
            await self._record(uow, (batch.network_id, batch.cycle_id, batch.chunk), outcomes, now, event_id=event_id)
        return outcomes, applied

    def _may_be_settled_soon(self, payment: Payment, now: datetime) -> bool:
        open_s = (now - payment.changed_at).total_seconds()
        return payment.state in _OUTCOME_OPEN and open_s < self._settings.too_early_s

    async def _record(
        self,
        uow: SettlementUnit,
        chunk: tuple[NetworkId, str, int],
        outcomes: _Outcomes,
        now: datetime,
        *,
        event_id: str,
    ) -> None:
        network_id, cycle_id, number = chunk
        new = {r.record_no for r in outcomes.sorted_records.new}
        stored = [(number, *outcome) for number, outcome in outcomes.by_record().items() if number not in new]
        if stored:
            await uow.clearing.write_outcomes(network_id, cycle_id, stored)
        told = CycleSettled.of_stored(
            network_id=network_id,
            cycle_id=cycle_id,
            chunk=number,
            matched=len(outcomes.matched),
            breaks=len(outcomes.breaks),
            positions=positions(
                ((m.record, m.payment.merchant_id) for m in outcomes.matched), outcomes.sorted_records.undone
            ),
            corrections=tuple(outcomes.sorted_records.corrections),
            occurred_at=now,
        )
        await uow.outbox.append(
            [
                OutboxEvent(
                    topic=SETTLEMENTS,
                    key=network_id,
                    event_id=event_id,
                    event_type=EventType.CYCLE_SETTLED,
                    occurred_at=now,
                    body=encode(told),
                )
            ]
        )

    def _report(self, batch: ClearingBatch, outcomes: _Outcomes, applied: Applied) -> None:
        for name, n in (
            ("corrected", len(outcomes.sorted_records.corrections)),
            ("stale", outcomes.sorted_records.stale),
        ):
            if n:
                self._observer.count("settlement", name, n=n)
                where = {"network_id": batch.network_id, "cycle_id": batch.cycle_id}
                self._observer.note(f"clearing_{name}", level="warning", **where, count=n)
        self._tell_settled(applied)
        for kind, n in Counter(found.kind.value for _, _, found in outcomes.breaks).items():
            self._observer.count("settlement", "break", reason=kind, network=batch.network_id, n=n)
            self._observer.note("clearing_break", level="warning", network_id=batch.network_id, reason=kind, count=n)

    def _tell_settled(self, applied: Applied) -> None:
        took: dict[str, list[float]] = {}
        tell_steps(self._observer, applied.changed)
        for payment in applied.changed:
            took.setdefault(payment.network_id or "", []).append(
                (payment.changed_at - payment.ordered_at).total_seconds()
            )
        for network_id, seconds in took.items():
            self._observer.count("settlement", "settled", network=network_id, n=len(seconds))
            self._observer.spans("order_to_settled", seconds, network=network_id)


def _digest(batch: ClearingBatch) -> str:
    """Tells one correction's event from the next, and a repetition of it is the same."""
    return word_of(hashlib.sha256(encode(batch)).digest())


def _moment(at: datetime) -> str:
    return f"{at:T%Y%m%dT%H%M%SZ%f}"


async def _write_new(uow: SettlementUnit, batch: ClearingBatch, outcomes: _Outcomes, created_at: datetime) -> None:
    """Record what was new when it was looked at. If another worker has done so since, all is tried again."""
    new = outcomes.sorted_records.new
    await uow.clearing.add(batch.network_id, batch.cycle_id, new, created_at=created_at, outcomes=outcomes.by_record())


async def _locked(
    uow: SettlementUnit, found: Sequence[tuple[NetworkId, str, ClearingRecord]]
) -> dict[NetworkId, dict[str, Payment]]:
    """Payments that records of any networks name, by network and RRN.

    All at once, whatever their cycles and networks: whoever else moves some of them locks them in one order, too.
    """
    keys: dict[NetworkId, Mapping[str, PaymentKey]] = {}
    for network_id, group in groupby(found, key=lambda f: f[0]):
        keys[network_id] = await uow.payments.keys_by_rrn(network_id, sorted({record.rrn for _, _, record in group}))
    locked = await uow.payments.lock(sorted({key for named in keys.values() for key in named.values()}))
    return {n: {rrn: locked[key] for rrn, key in named.items() if key in locked} for n, named in keys.items()}


async def _acceptors(uow: SettlementUnit, payments: Mapping[str, Payment]) -> Mapping[MerchantId, frozenset[str]]:
    return await uow.clearing.acceptors(sorted({p.merchant_id for p in payments.values()}))


def _by_key(payments: Mapping[str, Payment]) -> dict[PaymentKey, Payment]:
    return {p.key: p for p in payments.values()}


def _cleared(outcomes: _Outcomes) -> list[Change]:
    return [
        Change(key=(m.payment.partner_id, m.payment.payment_id), kind=PaymentEventKind.CLEARED)
        for m in outcomes.matched
    ]


def _match(
    records: Sequence[ClearingRecord],
    payments: Mapping[str, Payment],
    acceptors: Mapping[MerchantId, frozenset[str]],
) -> _Outcomes:
    outcomes = _Outcomes()
    cleared: set[str] = set()
    for record in records:
        named = payments.get(record.rrn)
        payment = None if named is None else ClearedPayment.of(named)
        own = acceptors.get(payment.merchant_id, frozenset()) if payment is not None else frozenset()
        outcome = match_record(record, payment, already_cleared=record.rrn in cleared, acceptors=own)
        match outcome:
            case Matched():
                cleared.add(record.rrn)
                outcomes.matched.append(outcome)
            case Break():
                key = (payment.partner_id, payment.payment_id) if payment else None
                outcomes.breaks.append((record, key, outcome))
            case _:
                assert_never(outcome)
    return outcomes
