"""Bugs in events, offsets and the loops of the stages."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Final, TypeVar

from gateway.app import execution as execution_stage
from gateway.app import settlement as settlement_stage
from gateway.base.errors import PublisherUnavailableError, StoreConflictError, StoreUnavailableError
from gateway.messaging import isolation
from gateway.orders import payment_kinds
from gateway.orders import turns as fair_intake
from gateway.outbox import relay
from gateway.outbox.bundles import members_of
from gateway.outbox.rules import ahead
from gateway.payments import transitions
from gateway.payments.rules.lifecycle import TRANSITIONS, LimitEffect, PaymentEventKind, PaymentState, Transition
from gateway.proving.simulation.bugs.planting import Mutant, edited, replaced, swapped, together
from gateway.proving.simulation.crew import broker

T = TypeVar("T")
_S, _E, _L = PaymentState, PaymentEventKind, LimitEffect


def _outbox_row_dropped() -> AbstractContextManager[None]:
    def some(payments: Any) -> Any:
        return before([p for p in payments if p.state is not _S.UNKNOWN])

    before = transitions.payment_events
    return replaced(transitions, "payment_events", some)


def _bundle_half_told() -> AbstractContextManager[None]:
    return replaced(relay, "members_of", lambda number, event: members_of(number, event)[:1])


def _relay_gives_up() -> AbstractContextManager[None]:
    async def once(action: Callable[[], Awaitable[T]]) -> T | None:
        try:
            return await action()
        except (StoreConflictError, StoreUnavailableError, PublisherUnavailableError):
            return None

    return replaced(relay, "until_done", once)


def _cursor_runs_ahead() -> AbstractContextManager[None]:
    return edited(ahead.Progress, "_follow", ("p[0] < bound and ", ""))


def _everywhere(*edits: tuple[str, str]) -> AbstractContextManager[None]:
    """In the loop that whoever reads a topic runs."""
    return together(*(edited(owner, "consume", *edits) for owner in (broker, settlement_stage)))


def _offsets_first() -> AbstractContextManager[None]:
    return _everywhere(
        (
            "await handle(records)\n        await batches.finished(records)",
            "await batches.finished(records)\n        await handle(records)",
        )
    )


def _execution_offsets_first() -> AbstractContextManager[None]:
    work = "done = await _to_the_end(asyncio.create_task(self._work(records)), told=self.service.give_up)"
    return edited(execution_stage.ExecutionStage, "take", (work, f"await self.consumer.commit(records); {work}"))


def _failed_batch_acknowledged() -> AbstractContextManager[None]:
    return _everywhere(
        (
            "await handle(records)\n",
            "try:\n            await handle(records)\n        except Exception:\n            pass\n",
        )
    )


def _failed_batch_dropped() -> AbstractContextManager[None]:
    return edited(isolation.IsolatedBatch, "run", ("for record in records:", "for record in records[:0]:"))


def _waiting_lost() -> AbstractContextManager[None]:
    return edited(fair_intake.FairIntake, "_let_wait", ("await self._publisher.publish(outgoing)", "pass"))


_LAST_TURN: Final = "    if turn:\n        await self._take_turn(turn, taken)"


def _waiting_committed_first() -> AbstractContextManager[None]:
    work, commit = (
        "await self._take([w.record for w in turn])",
        "await taken([w.ends for w in turn if w.ends is not None])",
    )
    return edited(fair_intake.FairIntake, "_take_turn", (f"{work}\n    {commit}", f"{commit}\n    {work}"))


def _half_a_turn() -> AbstractContextManager[None]:
    return edited(fair_intake.FairIntake, "take_waiting", (_LAST_TURN, "    pass"))


def _overtaken_order_dropped() -> AbstractContextManager[None]:
    return edited(payment_kinds, "_write", ("raise OvertakenError", "pass"))


def _unledgered() -> AbstractContextManager[None]:
    row: Transition = replace(TRANSITIONS[_S.UNKNOWN, _E.INQUIRY_APPROVED], transfers=())
    return swapped(TRANSITIONS, {(_S.UNKNOWN, _E.INQUIRY_APPROVED): row})


def _topic_skipped() -> AbstractContextManager[None]:
    return edited(relay.RelayService, "relay_once", ("parked=outcome.parked", "parked=()"))


LOOPS: Final = (
    Mutant("outbox-row-dropped", "writes no event for an unknown outcome", _outbox_row_dropped),
    Mutant("relay-gives-up", "moves its cursor past what Kafka refused", _relay_gives_up),
    Mutant("bundle-half-told", "tells the first of the events that stand in one row", _bundle_half_told),
    Mutant("cursor-runs-ahead", "moves the relay's cursor past transactions that run", _cursor_runs_ahead),
    Mutant("offsets-first", "commits Kafka's offsets before the work", _offsets_first),
    Mutant("execution-offsets-first", "commits what execution took before its intents", _execution_offsets_first),
    Mutant("failed-batch-acknowledged", "goes on past a batch whose handling raised", _failed_batch_acknowledged),
    Mutant("failed-batch-dropped", "runs no record of a failed batch by itself", _failed_batch_dropped),
    Mutant("waiting-order-lost", "drops what has to wait for its turn", _waiting_lost),
    Mutant("waiting-offsets-first", "commits what waited before the work", _waiting_committed_first),
    Mutant("half-a-turn", "drops the end of a turn of what waited", _half_a_turn),
    Mutant("overtaken-order-dropped", "drops an order that lost its id to another", _overtaken_order_dropped),
    Mutant("closed-topic-skipped", "drops the events of a closed topic", _topic_skipped),
    Mutant("ledger-row-lost", "posts nothing when an inquiry finds an approval", _unledgered),
)
