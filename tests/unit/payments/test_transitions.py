"""apply_changes on fakes: each transition with all of its effects in one transaction, and nothing else."""

import pytest
from msgspec.structs import replace

from gateway.base.errors import StoreIntegrityError
from gateway.consents.rules.limits import Usage
from gateway.consents.store import UsageChange
from gateway.network.exchange import Operation
from gateway.payments.rules.ledger import Transfer, TransferKind
from gateway.payments.rules.lifecycle import IGNORED, TRANSITIONS, PaymentEventKind, PaymentState
from gateway.payments.rules.payment import Change, Payment
from gateway.payments.transitions import Applied, apply_changes
from schemas.events import PaymentEvent
from schemas.primitives import NetworkId
from schemas.reasons import Reason, ReasonCode
from tests.support.builders import NETWORK, UNSENT, later, payment, window
from tests.support.rig import Rig

S, E = PaymentState, PaymentEventKind
WHY = Reason(code=ReasonCode.AM04, text="insufficient funds", network_code="51")
WINDOWS = (window("day/calendar/KRW"), window("month/calendar/count"))
AMOUNT = 10_000


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def store(rig: Rig, *payments: Payment, usage: Usage = Usage()) -> None:  # noqa: B008 - immutable
    async with rig.store.transaction() as uow:
        await uow.payments.insert(payments)
        if usage != Usage():
            changes = [
                UsageChange(
                    (p.partner_id, p.consent_id, w),
                    *usage,
                )
                for p in payments[:1]
                for w in WINDOWS
            ]
            await uow.consents.add_usage(changes)


async def apply(rig: Rig, *changes: Change, at: float = 5) -> Applied:
    async with rig.store.transaction() as uow:
        return await apply_changes(uow, changes, now=later(at))


# What a transition does to what is taken of limits, to the ledger, and to the reversal queue.
# fmt: off
EFFECTS = {
    (S.SENT,      E.WITHDRAWN):          (S.REJECTED,  -1,  [],                       False),
    (S.SENT,      E.APPROVED):           (S.APPROVED,  0,   ["authorised"],           False),
    (S.SENT,      E.DECLINED):           (S.DECLINED,  -1,  [],                       False),
    (S.SENT,      E.UNANSWERED):         (S.UNKNOWN,   0,   [],                       True),
    (S.SENT,      E.MISMATCHED):         (S.UNKNOWN,   0,   [],                       True),
    (S.SENT,      E.INQUIRY_STARTED):    (S.UNKNOWN,   0,   [],                       False),
    (S.UNKNOWN,   E.INQUIRY_APPROVED):   (S.APPROVED,  0,   ["authorised"],           False),
    (S.UNKNOWN,   E.INQUIRY_DECLINED):   (S.DECLINED,  -1,  [],                       False),
    (S.UNKNOWN,   E.INQUIRY_NOT_SEEN):   (S.UNKNOWN,   0,   [],                       True),
    (S.UNKNOWN,   E.INQUIRY_UNANSWERED): (S.UNKNOWN,   0,   [],                       True),
    (S.UNKNOWN,   E.REVERSAL_CONFIRMED): (S.REVERSED,  -1,  [],                       False),
    (S.APPROVED,  E.REVERSAL_STARTED):   (S.REVERSING, 0,   [],                       True),
    (S.APPROVED,  E.CANCELLED):          (S.REVERSING, 0,   [],                       True),
    (S.APPROVED,  E.CLEARED):            (S.SETTLED,   0,   ["settled"],              False),
    (S.REVERSING, E.REVERSAL_CONFIRMED): (S.REVERSED,  -1,  ["authorisation_undone"], False),
    (S.SETTLED,   E.UNCLEARED):          (S.APPROVED,  0,   ["settlement_undone"],    False),
}
# fmt: on


def test_every_transition_of_a_stored_payment_that_was_sent_is_in_the_table() -> None:
    assert set(EFFECTS) == {pair for pair in TRANSITIONS if pair[0] not in (None, S.SCHEDULED)}


@pytest.mark.parametrize("pair", EFFECTS, ids=lambda p: f"{p[0]}+{p[1]}")
async def test_a_transition_writes_all_of_its_effects(rig: Rig, pair: tuple[PaymentState, PaymentEventKind]) -> None:
    state, taken, ledger, reverse = EFFECTS[pair]
    before = payment(1, state=pair[0], windows=WINDOWS, version=3, approval_code="OLD")
    await store(rig, before, usage=Usage(70_000, 7))
    stood = ["settled"] if pair[0] is S.SETTLED else []
    async with rig.store.transaction() as uow:
        await uow.payments.insert_transfers(
            [(before.key, Transfer(TransferKind(kind), "a", "b", AMOUNT, "KRW"), later(1)) for kind in stood]
        )
    applied = await apply(rig, Change(before.key, pair[1], reason=WHY))

    after = rig.payment(1)
    assert after == replace(before, state=state, version=4, reason=WHY, changed_at=later(5))
    assert applied.changed == [after]
    assert rig.used() == {Usage(70_000 + taken * AMOUNT, 7 + taken)}
    assert rig.ledger_kinds() == [*stood, *ledger]
    queued = [row.follow_up for row in rig.database.reversals.rows.values()]
    assert [(r.key, r.network_id, r.stan, r.queued_at) for r in queued] == (
        [(after.key, after.network_id, 500_001, later(5))] if reverse else []
    )
    (event,) = rig.events()
    told = PaymentEvent.model_validate_json(event.body)
    assert event.event_id == f"{after.payment_id}:4"
    assert (told.version, told.state, told.reason, told.occurred_at) == (4, state.value, WHY, later(5))


IGNORED_PAIRS = [(s, e) for s, e in IGNORED if s is not None]


@pytest.mark.parametrize("pair", IGNORED_PAIRS, ids=lambda p: f"{p[0]}+{p[1]}")
async def test_what_the_lifecycle_ignores_moves_nothing_and_undoes_only_what_the_table_says(
    rig: Rig, pair: tuple[PaymentState, PaymentEventKind]
) -> None:
    before = payment(1, state=pair[0], windows=() if pair[0] in UNSENT else WINDOWS)
    await store(rig, before)
    change = Change(before.key, pair[1], reason=WHY, approval_code="NEW")
    applied = await apply(rig, change)
    assert (applied.changed, applied.ignored, applied.missing) == ([], [(change, pair[0])], [])
    assert rig.database.payments.rows == {before.key: before}
    assert (rig.told(), rig.database.usage.rows, rig.ledger_kinds(), rig.database.inquiries.rows) == ([], {}, [], {})
    undone = IGNORED[pair].undo and pair[0] not in UNSENT
    assert list(rig.database.reversals.rows) == [p.key for p in applied.undone] == ([before.key] if undone else [])


async def test_what_was_confirmed_as_reversed_is_undone_again_under_new_numbers(rig: Rig) -> None:
    one = payment(1, state=PaymentState.UNKNOWN, windows=())
    await store(rig, one)
    await apply(rig, Change(one.key, E.INQUIRY_NOT_SEEN))
    async with rig.store.transaction() as uow:
        (first,) = await uow.reversals.claim(
            NetworkId(NETWORK), owner="w", now=later(9), lease_until=later(60), limit=1
        )
        await uow.reversals.close({one.key: "25"}, owner="w", now=later(9))
    await apply(rig, Change(one.key, E.REVERSAL_CONFIRMED))
    await apply(rig, Change(one.key, E.APPROVED))
    row = rig.database.reversals.rows[one.key]
    assert (row.closed_at, row.follow_up.attempts) == (None, 0)
    assert row.follow_up.stan != first.stan
    assert rig.states() == {"order-1": "reversed"}


async def test_a_change_to_a_payment_that_does_not_exist_is_told_apart(rig: Rig) -> None:
    change = Change(payment(9).key, E.APPROVED)
    assert (await apply(rig, change)).missing == [change]
    assert rig.told() == []


async def test_several_changes_of_one_payment_are_as_many_versions_and_events(rig: Rig) -> None:
    one = payment(1, windows=WINDOWS)
    await store(rig, one, usage=Usage(AMOUNT, 1))
    changes = [Change(one.key, E.APPROVED, approval_code="A1"), Change(one.key, E.APPROVED), Change(one.key, E.CLEARED)]
    applied = await apply(rig, *changes)
    assert [(p.state, p.version) for p in applied.changed] == [(S.APPROVED, 2), (S.SETTLED, 3)]
    assert applied.ignored == [(changes[1], S.APPROVED)]
    assert rig.told() == ["payment.approved", "payment.settled"]
    assert (rig.payment(1).state, rig.payment(1).version, rig.payment(1).approval_code) == (S.SETTLED, 3, "A1")
    assert (rig.ledger_kinds(), rig.used()) == (["authorised", "settled"], {Usage(AMOUNT, 1)})


async def test_payments_that_share_windows_are_summed_up(rig: Rig) -> None:
    rows = [payment(n, windows=WINDOWS, amount_minor=n * 100) for n in (1, 2, 3)]
    await store(rig, *rows, usage=Usage(600, 3))
    await apply(
        rig,
        Change(rows[0].key, E.APPROVED),
        Change(rows[1].key, E.DECLINED, reason=WHY),
        Change(rows[2].key, E.UNANSWERED, reason=WHY),
    )
    assert rig.used() == {Usage(400, 2)}


async def test_obligations_of_a_refund_go_the_other_way(rig: Rig) -> None:
    rows = [payment(1), payment(2, operation=Operation.REFUND, original_payment_id=payment(1).payment_id)]
    await store(rig, *rows)
    await apply(rig, *(Change(p.key, E.APPROVED) for p in rows))
    assert set(rig.balances().values()) == {0}
    assert len({p.transfer.debit for p in rig.database.transfers.rows.values()}) == 2


async def test_giving_back_what_was_never_taken_undoes_the_whole_transaction(rig: Rig) -> None:
    rows = [payment(1), payment(2, windows=WINDOWS)]
    await store(rig, *rows)
    with pytest.raises(StoreIntegrityError):
        await apply(rig, Change(rows[0].key, E.APPROVED), Change(rows[1].key, E.DECLINED, reason=WHY))
    assert rig.database.payments.rows == {p.key: p for p in rows}
    assert (rig.told(), rig.ledger_kinds()) == ([], [])


async def test_each_reversal_has_a_stan_of_its_own_outside_of_the_payments_range(rig: Rig) -> None:
    rows = [payment(n) for n in range(1, 4)]
    await store(rig, *rows)
    await apply(rig, *(Change(p.key, E.UNANSWERED, reason=WHY) for p in rows))
    stans = [r.follow_up.stan for r in rig.database.reversals.rows.values()]
    assert stans == [500_001, 500_002, 500_003]


async def test_nothing_to_change_costs_nothing(rig: Rig) -> None:
    assert (await apply(rig)).changed == []
    assert rig.told() == []
