from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from gateway.network.exchange import Operation
from gateway.payments.rules.ledger import TransferKind
from gateway.payments.rules.lifecycle import PaymentState
from gateway.settlement.rules import (
    OPERATION_OF,
    Break,
    BreakKind,
    ClearedPayment,
    Matched,
    StoredRecord,
    changed_fields,
    judge_repeated,
    match_record,
    missing_there,
    positions,
)
from schemas.clearing import ClearingKind, ClearingRecord
from schemas.events import MerchantPosition
from schemas.primitives import MerchantId, PartnerId, PaymentId


def record(**fields: Any) -> ClearingRecord:
    defaults: dict[str, Any] = {
        "record_no": 1,
        "kind": ClearingKind.PURCHASE,
        "rrn": "513703000001",
        "stan": 17,
        "terminal_id": "TERM0001",
        "acceptor_id": "ACCEPTOR1",
        "amount_minor": 1000,
        "currency": "KRW",
    }
    return ClearingRecord(**(defaults | fields))


def payment(**fields: Any) -> ClearedPayment:
    defaults: dict[str, Any] = {
        "partner_id": PartnerId("partner-1"),
        "payment_id": PaymentId(UUID(int=1)),
        "state": PaymentState.APPROVED,
        "operation": Operation.PURCHASE,
        "amount_minor": 1000,
        "currency": "KRW",
        "merchant_id": MerchantId("merchant-1"),
        "stan": 17,
        "terminal_id": "TERM0001",
    }
    return ClearedPayment(**(defaults | fields))


# The record is a purchase of 1000 KRW with STAN 17 at TERM0001 for ACCEPTOR1. "cleared": another record matched the
# payment before. "acceptor": whose that is; "former": the merchant's of before; "unknown": there is no such merchant.
ACCEPTORS = {
    "own": {"ACCEPTOR1"},
    "former": {"ACCEPTOR2", "ACCEPTOR1"},
    "another": {"ACCEPTOR2"},
    "unknown": set(),
    "-": set(),
}
MATCHES = """
  state      operation  amount    stan  terminal  acceptor  cleared  found
  approved   purchase   1000 KRW  17    TERM0001  own       no       matched
  -          -          -    -    -     -         -         no       missing_here
  -          -          -    -    -     -         -         yes      missing_here
  approved   purchase   1000 KRW  18    TERM0001  own       no       trace_differs
  approved   purchase   1000 KRW  17    TERM0002  own       no       trace_differs
  approved   purchase   1000 KRW  17    TERM0001  own       yes      duplicate
  settled    purchase   1000 KRW  17    TERM0001  own       no       duplicate
  settled    purchase   1000 KRW  17    TERM0001  own       yes      duplicate
  approved   refund     1000 KRW  17    TERM0001  own       no       kind_differs
  reversing  purchase   1000 KRW  17    TERM0001  own       no       reversed_but_cleared
  reversed   purchase   1000 KRW  17    TERM0001  own       no       reversed_but_cleared
  rejected   purchase   1000 KRW  17    TERM0001  own       no       not_approved
  scheduled  purchase   1000 KRW  17    TERM0001  own       no       not_approved
  sent       purchase   1000 KRW  17    TERM0001  own       no       not_approved
  unknown    purchase   1000 KRW  17    TERM0001  own       no       not_approved
  declined   purchase   1000 KRW  17    TERM0001  own       no       not_approved
  approved   purchase    999 KRW  17    TERM0001  own       no       amount_differs
  approved   purchase   1001 KRW  17    TERM0001  own       no       amount_differs
  approved   purchase   1000 USD  17    TERM0001  own       no       amount_differs
  settled    purchase    999 KRW  18    TERM0001  own       yes      trace_differs
  settled    refund      999 KRW  17    TERM0001  own       no       duplicate
  reversed   refund      999 KRW  17    TERM0001  own       no       kind_differs
  reversed   purchase    999 KRW  17    TERM0001  own       no       reversed_but_cleared
  approved   purchase   1000 KRW  17    TERM0001  another   no       acceptor_differs
  approved   purchase    999 KRW  17    TERM0001  another   no       acceptor_differs
  approved   purchase   1000 KRW  17    TERM0001  former    no       matched
  approved   purchase   1000 KRW  17    TERM0001  unknown   no       matched
  declined   purchase   1000 KRW  17    TERM0001  another   no       not_approved
  settled    purchase   1000 KRW  17    TERM0001  another   no       duplicate
  approved   purchase   1000 KRW  18    TERM0001  another   no       trace_differs
"""


@pytest.mark.parametrize("row", MATCHES.strip().splitlines()[1:])
def test_records_match_as_the_table_says(row: str) -> None:
    state, operation, amount, currency, stan, terminal_id, acceptor, cleared, found = row.split()
    known = (
        None
        if state == "-"
        else payment(
            state=PaymentState(state),
            operation=Operation(operation),
            amount_minor=int(amount),
            currency=currency,
            stan=int(stan),
            terminal_id=terminal_id,
        )
    )
    said = record(acceptor_id="ACCEPTOR1  ")  # as some networks fill it up
    result = match_record(said, known, already_cleared=cleared == "yes", acceptors=ACCEPTORS[acceptor])
    assert (result.kind.value if isinstance(result, Break) else "matched") == found
    # Operators read why.
    assert not isinstance(result, Break) or result.detail


def test_every_state_and_kind_of_break_is_in_the_table() -> None:
    cells = {cell for line in MATCHES.splitlines() for cell in line.split()}
    assert {s.value for s in PaymentState} <= cells
    assert {k.value for k in BreakKind} - {BreakKind.MISSING_THERE.value} <= cells


def test_a_match_settles_the_payment() -> None:
    result = match_record(record(), payment(), already_cleared=False)
    assert isinstance(result, Matched)
    assert (result.record, result.payment) == (record(), payment())
    assert result.transition.state is PaymentState.SETTLED
    assert result.transition.transfers == (TransferKind.SETTLED,)


def test_a_refund_matches_a_refund() -> None:
    assert set(OPERATION_OF) == set(ClearingKind)
    refund = payment(operation=Operation.REFUND)
    assert isinstance(match_record(record(kind=ClearingKind.REFUND), refund, already_cleared=False), Matched)


def test_an_amount_break_tells_both_amounts() -> None:
    result = match_record(record(amount_minor=1200), payment(), already_cleared=False)
    assert isinstance(result, Break)
    assert "1200 KRW" in result.detail
    assert "1000 KRW" in result.detail


def test_after_cut_over_only_an_approved_payment_is_missing_there() -> None:
    payments = [payment(state=state) for state in PaymentState]
    found = missing_there(payments)
    assert [(p.state, b.kind) for p, b in found] == [(PaymentState.APPROVED, BreakKind.MISSING_THERE)]
    assert all(b.detail for _, b in found)


def test_positions_are_purchases_less_refunds_by_merchant_and_currency() -> None:
    def row(merchant: str, kind: ClearingKind, amount: int, currency: str) -> tuple[ClearingRecord, MerchantId]:
        return record(kind=kind, amount_minor=amount, currency=currency), MerchantId(merchant)

    rows = [
        row("m2", ClearingKind.PURCHASE, 500, "KRW"),
        row("m1", ClearingKind.PURCHASE, 1000, "KRW"),
        row("m1", ClearingKind.REFUND, 300, "KRW"),
        row("m1", ClearingKind.PURCHASE, 7, "USD"),
        row("m2", ClearingKind.REFUND, 800, "KRW"),
    ]
    expected = (
        MerchantPosition(merchant_id=MerchantId("m1"), currency="KRW", count=2, net_minor=700),
        MerchantPosition(merchant_id=MerchantId("m1"), currency="USD", count=1, net_minor=7),
        MerchantPosition(merchant_id=MerchantId("m2"), currency="KRW", count=2, net_minor=-300),
    )
    assert positions(rows) == expected
    assert positions(reversed(rows)) == expected
    assert positions([]) == ()
    # What a correction undid is taken away.
    assert positions(rows, rows[:1]) == (
        *expected[:2],
        MerchantPosition(merchant_id=MerchantId("m2"), currency="KRW", count=1, net_minor=-800),
    )
    assert [(p.count, p.net_minor) for p in positions([], rows[:1])] == [(-1, -500)]


# A record comes again under its number. Its file's age beside the stored one's, its content, and whether the record had
# that content before → what it is. The stored one's is ahead of the clock by what is possible, or by more.
REPEATED = """
  file     content  before  found
  older    same     no      same
  equal    same     no      same
  newer    same     no      same
  unknown  same     no      same
  newer    other    no      correction
  newer    other    yes     correction
  equal    other    no      correction
  equal    other    yes     stale
  older    other    no      stale
  older    other    yes     stale
  unknown  other    no      correction
  unknown  other    yes     correction
  possible other    no      stale
  untrue   same     no      same
  untrue   other    no      correction
  untrue   other    yes     stale
"""


@pytest.mark.parametrize("line", REPEATED.split("\n")[2:-1])
def test_a_record_that_comes_again(line: str) -> None:
    age, content_, before, found = line.split()
    at = datetime(2025, 5, 1, tzinfo=UTC)
    created_at = at + {"older": -1, "newer": 1}.get(age, 0) * timedelta(seconds=1)
    ahead = {"possible": timedelta(days=1), "untrue": timedelta(days=1, seconds=1)}.get(age, timedelta(0))
    stored = StoredRecord(record(), None if age == "unknown" else at + ahead, None, None)
    again = record() if content_ == "same" else record(amount_minor=999)
    # An approval code is not kept, so it is no difference.
    again = again.model_copy(update={"approval_code": "123456"})
    earlier = [record(amount_minor=998), *([record(amount_minor=999)] if before == "yes" else [])]
    assert judge_repeated(again, created_at, stored, earlier, at).value == found


def test_what_a_correction_changed_is_named() -> None:
    assert changed_fields(record(), record(approval_code="123456")) == ()
    assert set(changed_fields(record(), record(amount_minor=999, stan=18))) == {"amount_minor", "stan"}
