"""Answers that belong to no exchange in flight: late, repeated, unsolicited, or to a worker that is gone.

Each is kept, and does what the lifecycle's table says: it may settle an open inquiry or a payment that nobody waits for
any more, or leave that one to be settled as the network's unknown outcomes are; an approval of what was reversed or
declined is undone; everything else changes nothing.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from gateway.base.process import Clock, Observer
from gateway.database.unit import Store
from gateway.messaging.isolation import write_isolated
from gateway.network.exchange import UnmatchedAnswer
from gateway.network.matching import MatchBy, answers_to
from gateway.network.response_codes import STANDARD, ResponseCodes
from gateway.payments.rules.lifecycle import PaymentEventKind
from gateway.payments.rules.payment import Change, Payment, PaymentKey
from gateway.payments.store import PaymentChangeUnit
from gateway.payments.transitions import Applied, apply_changes
from gateway.payments.unknown.incidents import report_settled
from gateway.payments.unknown.rules import judge_late_answer
from gateway.payments.unknown.store import LateAnswer
from gateway.payments.unknown.verdicts import UnknownPolicy, Verdict
from schemas.primitives import NetworkId

FINANCIAL_RESPONSE: Final = "0210"
"""Late answers to reversals and inquiries do nothing: these are repeated until they are answered in time."""

QUEUE_MAX: Final = 10_000
"""More than any honest network sends late. Past it answers are counted and dropped: what they would settle is settled
by a reversal or an inquiry too, but for an approval after a reversal, which then comes up as a break in clearing."""

_OTHER: Final = "other_numbers"
"""It names a payment, but is no answer to the 0200 that this one was sent with."""

_NOBODYS: Final = "unsolicited"
"""It names no payment of ours."""


class LateAnswerService:
    """Takes what a network's links could not match."""

    def __init__(
        self,
        *,
        network_id: NetworkId,
        store: Store[PaymentChangeUnit],
        observer: Observer,
        clock: Clock,
        policy: UnknownPolicy,
        codes: ResponseCodes = STANDARD,
        match_by: MatchBy = MatchBy.REFERENCE,
        batch_max: int = 500,
    ) -> None:
        self._network_id = network_id
        self._store = store
        self._observer = observer
        self._clock = clock
        self._policy = policy
        self._codes = codes
        self._match_by = match_by
        self._batch_max = batch_max
        self._waiting: asyncio.Queue[UnmatchedAnswer] = asyncio.Queue(QUEUE_MAX)

    def take(self, unmatched: UnmatchedAnswer) -> None:
        """Put one answer down to be worked on; called from the event loop, never waits."""
        self._observer.count("execution", "unmatched_answer", reason=unmatched.answer.response_code)
        try:
            self._waiting.put_nowait(unmatched)
        except asyncio.QueueFull:
            self._observer.count("execution", "unmatched_answer_dropped")
            self._observer.note(
                "unmatched_answer_dropped",
                level="error",
                network_id=self._network_id,
                terminal_id=unmatched.terminal_id,
                stan=unmatched.stan,
            )

    async def work(self) -> int:
        """Wait for answers and write what they did; return how many. Call it again and again."""
        batch = [await self._waiting.get()]
        while len(batch) < self._batch_max and not self._waiting.empty():
            batch.append(self._waiting.get_nowait())
        try:
            for applied, late in await write_isolated(batch, self._write, self._cannot):
                report_settled(self._observer, "late_answer", self._network_id, applied)
                self._report(late)
        finally:
            for _ in batch:
                self._waiting.task_done()
        return len(batch)

    async def written(self) -> None:
        """Return once every answer that has come so far is in Postgres."""
        await self._waiting.join()

    async def _write(self, batch: Sequence[UnmatchedAnswer]) -> tuple[Applied, list[LateAnswer]]:
        now = self._clock.now()
        async with self._store.transaction() as uow:
            keys = await uow.payments.keys_by_rrn(
                self._network_id, sorted({u.answer.rrn for u in batch if u.answer.rrn is not None})
            )
            named = [(u, keys.get(u.answer.rrn or "")) for u in batch]
            # Locked before their inquiries are looked for: one may be about to begin.
            payments = await uow.payments.lock(sorted({k for _, k in named if k is not None}))
            financial = [(u, payments[k]) for u, k in named if k and k in payments and self._answers(u, payments[k])]
            applied = await self._apply(uow, financial, payments, now)
            outcomes = {
                **{p.key: "ignored" for _, p in financial},
                **{p.key: p.state.value for p in applied.changed},
                **{p.key: "undone" for p in applied.undone},
            }
            late = [LateAnswer(u, key, outcomes.get(key, _OTHER) if key else _NOBODYS, now) for u, key in named]
            await uow.payments.note_late_answers(late)
        return applied, late

    async def _apply(
        self,
        uow: PaymentChangeUnit,
        answers: Sequence[tuple[UnmatchedAnswer, Payment]],
        locked: Mapping[PaymentKey, Payment],
        now: datetime,
    ) -> Applied:
        """Turn each into the payment's event; one that is clear takes an open inquiry's place."""
        clear = {
            payment.key
            for unmatched, payment in answers
            if self._judge(payment, unmatched, inquiry_open=True) != self._judge(payment, unmatched, inquiry_open=False)
        }
        closed = set(await uow.inquiries.take_away(sorted(clear), now=now))
        changes: list[Change] = []
        for unmatched, payment in answers:
            verdict = self._judge(payment, unmatched, inquiry_open=payment.key in closed)
            # The first clear answer settles it, and none that came before; a second copy is what it says.
            if verdict.event in (PaymentEventKind.INQUIRY_APPROVED, PaymentEventKind.INQUIRY_DECLINED):
                closed.discard(payment.key)
            changes.append(verdict.change_of(payment.key))
        return await apply_changes(uow, changes, now=now, locked=locked)

    def _answers(self, unmatched: UnmatchedAnswer, payment: Payment) -> bool:
        """True if it answers the very 0200 that the payment was sent with, as the network's answers are matched."""
        trace = payment.trace
        return (
            unmatched.mti == FINANCIAL_RESPONSE
            and trace is not None
            and answers_to(trace, unmatched.echoed, self._match_by)
        )

    def _judge(self, payment: Payment, unmatched: UnmatchedAnswer, *, inquiry_open: bool) -> Verdict:
        return judge_late_answer(
            payment, unmatched.answer, inquiry_open=inquiry_open, policy=self._policy, codes=self._codes
        )

    def _cannot(self, unmatched: UnmatchedAnswer, error: Exception) -> None:
        self._observer.count("late_answer", "unwritable", reason=type(error).__name__)
        self._observer.note(
            "late_answer_unwritable",
            level="error",
            network_id=self._network_id,
            terminal_id=unmatched.terminal_id,
            stan=unmatched.stan,
            error=type(error).__name__,
        )

    def _report(self, late: Sequence[LateAnswer]) -> None:
        for answer in late:
            self._observer.note(
                "late_answer",
                level="info" if answer.outcome == "ignored" else "warning",
                network_id=self._network_id,
                payment_id=answer.key[1] if answer.key else None,
                mti=answer.unmatched.mti,
                terminal_id=answer.unmatched.terminal_id,
                stan=answer.unmatched.stan,
                code=answer.unmatched.answer.response_code,
                outcome=answer.outcome,
            )
