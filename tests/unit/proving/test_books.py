"""The checkers are checked: balanced books pass, and each planted error is caught by the check that is for it."""

from collections.abc import Callable

import pytest

from gateway.proving.books import Ending, Evidence, check_books, endings_of
from gateway.proving.books.evidence import (
    ClearingRow,
    DeadLetterRow,
    EventRow,
    Forged,
    InquiryRow,
    NetworkEntry,
    PaymentRow,
    RefusalRow,
    TokenRow,
    TransferRow,
    UsageRow,
)
from gateway.proving.books.report import NAMED_MAX
from tests.support.proving_books import (
    AMOUNTS,
    CONSENT,
    CUSTOMER,
    DAY_S,
    EXEMPT,
    NETWORK,
    NOW_S,
    PARTNER,
    SHOP,
    TOKEN,
    TOPIC,
    VALID_FROM_S,
    WINDOWS,
    balanced,
    digest,
    event,
    key,
    order,
    payment_id,
)

Plant = Callable[[Evidence], None]


def failing(evidence: Evidence, **how: bool) -> set[str]:
    endings = endings_of(evidence, redelivery=how.get("redelivery", False))
    return {c.name for c in check_books(evidence, endings, **how) if not c.ok}


def change_payment(name: str, **changes: object) -> Plant:
    def plant(evidence: Evidence) -> None:
        evidence.payments[key(name)] = evidence.payments[key(name)]._replace(**changes)

    return plant


def change_entry(name: str, **changes: object) -> Plant:
    def plant(evidence: Evidence) -> None:
        evidence.network = [e._replace(**changes) if e.rrn == f"RRN{name}" else e for e in evidence.network]

    return plant


def change_usage(place: int, **changes: int) -> Plant:
    def plant(evidence: Evidence) -> None:
        evidence.usage[place] = evidence.usage[place]._replace(**changes)

    return plant


def drop_event(name: str, version: int) -> Plant:
    def plant(evidence: Evidence) -> None:
        evidence.events = [
            e for e in evidence.events if not (e.subject == str(payment_id(name)) and e.version == version)
        ]

    return plant


def swap_events(evidence: Evidence) -> None:
    first = next(n for n, e in enumerate(evidence.events) if e.subject == str(payment_id("settled")))
    evidence.events[first], evidence.events[first + 1] = evidence.events[first + 1], evidence.events[first]


def change_clearing(**changes: object) -> Plant:
    def plant(evidence: Evidence) -> None:
        evidence.clearing[0] = evidence.clearing[0]._replace(**changes)

    return plant


def change_transfer(**changes: object) -> Plant:
    def plant(evidence: Evidence) -> None:
        evidence.transfers[0] = evidence.transfers[0]._replace(**changes)

    return plant


def drop_answer(event_id: str) -> Plant:
    def plant(evidence: Evidence) -> None:
        evidence.events = [e for e in evidence.events if e.event_id != event_id]

    return plant


def enlarge_refund(evidence: Evidence) -> None:
    """By everything that is said of it, but the network's books of the original."""
    more = AMOUNTS["settled"] + 1
    change_payment("refund", amount_minor=more)(evidence)
    change_entry("refund", amount_minor=more)(evidence)


PLANTED: dict[str, tuple[Plant, str]] = {
    "more is given back than was taken": (enlarge_refund, "refunds_fit"),
    "the network gives back more than it took": (change_entry("refund", amount_minor=12_501), "refunds_fit"),
    "more is sent back than was ordered": (
        lambda e: e.produced.__setitem__(
            -1,
            e.produced[-1]._replace(order=e.produced[-1].order._replace(amount_minor=12_501)),  # type: ignore[union-attr]
        ),
        "refunds_fit",
    ),
    "what was undone is given back too": (
        change_payment("refund", original_payment_id=payment_id("undone")),
        "refunds_fit",
    ),
    "a refund of nothing": (change_payment("refund", original_payment_id=payment_id("none")), "refunds_fit"),
    "a refund of another payment": (
        change_payment("refund", original_payment_id=payment_id("declined")),
        "payments_are_orders",
    ),
    "a refund takes": (change_entry("refund", operation="purchase"), "network_agrees"),
    "an order gives back": (change_payment("settled", operation="refund"), "payments_are_orders"),
    "a cancellation is not answered": (drop_answer("mypay.orders/0/21"), "cancellations_told"),
    "a cancellation is answered twice": (
        lambda e: e.events.extend(v for v in list(e.events) if v.event_id == "mypay.orders/0/22"),
        "cancellations_told",
    ),
    "a cancellation is answered otherwise": (
        lambda e: e.cancellations.__setitem__(1, e.cancellations[1]._replace(answers=frozenset(("reversing",)))),
        "cancellations_told",
    ),
    "what was accepted to be undone stands": (drop_answer("mypay.orders/0/23:lapsed"), "cancellations_told"),
    "an answer to nothing": (lambda e: e.cancellations.pop(), "cancellations_told"),
    # what went wrong → the check that must tell
    "an order vanishes": (
        lambda e: e.produced.append(e.produced[0]._replace(offset=9, digest=b"x")),
        "records_end_once",
    ),
    "a repeated order is not answered": (
        lambda e: e.events.remove(next(v for v in e.events if v.kind == "payment.reported")),
        "records_end_once",
    ),
    "a reused order id is not refused": (lambda e: e.refusals.pop(0), "records_end_once"),
    "a record is parked and paid": (
        lambda e: e.dead_letters.append(DeadLetterRow("mypay.orders", 0, 0, "DecodeError", digest("settled"))),
        "records_end_once",
    ),
    "a record is parked twice": (lambda e: e.dead_letters.append(e.dead_letters[0]), "records_end_once"),
    "a record is refused and paid": (
        lambda e: e.refusals.append(RefusalRow(PARTNER, "mypay.orders/0/0", "o-settled", "DS17")),
        "records_end_once",
    ),
    "a payment comes from nowhere": (lambda e: e.produced.pop(0), "records_end_once"),
    "a stage parks what initiation let through": (
        lambda e: e.dead_letters.append(DeadLetterRow("mypay.dispatch.bcard", 0, 3, "KeyError", None)),
        "records_end_once",
    ),
    "a declined order is paid": (
        lambda e: e.produced.__setitem__(0, e.produced[0]._replace(expected=frozenset((Ending.DECLINED,)))),
        "ends_as_planned",
    ),
    "another amount is paid": (change_payment("settled", amount_minor=12_501), "payments_are_orders"),
    "another shop is paid": (change_payment("settled", merchant_id="m-2"), "payments_are_orders"),
    "another consent pays": (change_payment("settled", consent_id="c-2"), "payments_are_orders"),
    "other bytes are paid": (change_payment("declined", digest=b"y"), "payments_are_orders"),
    "the order's time is lost": (change_payment("settled", ordered_at_ms=0), "payments_are_orders"),
    "a payment stays in doubt": (change_payment("reversed", state="unknown"), "nothing_open"),
    "an approved payment is never cleared": (change_payment("settled", state="approved"), "nothing_open"),
    "the network captured what was declined": (change_entry("declined", state="approved"), "network_agrees"),
    "a reversal was lost on its way": (change_entry("reversed", state="approved"), "network_agrees"),
    "the network reversed what is settled": (change_entry("settled", state="reversed"), "network_agrees"),
    "the network booked another amount": (change_entry("settled", amount_minor=1), "network_agrees"),
    "the network lost a settled payment": (
        lambda e: e.network.remove(next(n for n in e.network if n.rrn == "RRNsettled")),
        "network_agrees",
    ),
    "sent without an intent": (
        lambda e: e.network.append(NetworkEntry(NETWORK, "RRNghost", 1, "KRW", "approved", 1, True)),
        "network_agrees",
    ),
    "a blind resend": (change_entry("settled", times_seen=2), "nothing_sent_twice"),
    "one RRN for two payments": (lambda e: e.network.append(e.network[0]), "nothing_sent_twice"),
    "a resend with other content": (
        lambda e: e.network_counters.update(duplicates_that_differ=1),
        "nothing_sent_twice",
    ),
    "a reversal stays open": (
        lambda e: e.reversals.__setitem__(0, e.reversals[0]._replace(confirmed=False)),
        "reversals_closed",
    ),
    "a late answer flips a reversed payment": (change_payment("reversed", state="settled"), "reversals_closed"),
    "reversed without a reversal": (lambda e: e.reversals.pop(), "reversals_closed"),
    "settled twice": (lambda e: e.clearing.append(e.clearing[0]._replace(record_no=2)), "clearing_fits"),
    "settled with no clearing": (lambda e: e.clearing.pop(), "clearing_fits"),
    "settled for another amount": (change_clearing(amount_minor=12_499), "clearing_fits"),
    "a break": (
        lambda e: e.clearing.append(
            ClearingRow(NETWORK, "20261123-0001", 2, "RRNnone", 1, "KRW", None, "missing_here")
        ),
        "clearing_fits",
    ),
    "cleared, and declined here": (change_entry("declined", state="approved", cleared=True), "clearing_fits"),
    "settled, and not cleared there": (change_entry("settled", cleared=False), "clearing_fits"),
    "an authorisation is posted twice": (lambda e: e.transfers.append(e.transfers[0]), "ledger_fits"),
    "a transfer is missing": (lambda e: e.transfers.pop(0), "ledger_fits"),
    "a transfer to another shop": (change_transfer(credit="merchant:m-2:payable"), "ledger_fits"),
    "a transfer of another amount": (change_transfer(amount_minor=1), "ledger_fits"),
    "a transfer of no payment": (
        lambda e: e.transfers.append(
            TransferRow(
                PARTNER,
                payment_id("ghost"),
                "authorised",
                "network:bcard:receivable",
                f"merchant:{SHOP}:payable",
                1,
                "KRW",
            )
        ),
        "ledger_fits",
    ),
    "an obligation is left over": (lambda e: e.transfers.pop(1), "obligations_fit"),
    "a limit is released twice": (change_usage(0, taken_minor=0, taken_count=0), "consent_use_exact"),
    "what failed was not given back": (change_usage(1, taken_minor=19_500, taken_count=2), "consent_use_exact"),
    "a window is missing": (lambda e: e.usage.pop(), "consent_use_exact"),
    "a limit is passed": (
        lambda e: e.consents.__setitem__(
            (PARTNER, CONSENT),
            e.consents[PARTNER, CONSENT]._replace(
                caps=tuple(c._replace(max_minor=c.max_minor and 12_499) for c in e.consents[PARTNER, CONSENT].caps)
            ),
        ),
        "limits_hold",
    ),
    "a limit is forgotten": (change_payment("settled", windows=f"day/consent/count@{DAY_S}"), "limits_hold"),
    "yesterday's window is used": (change_payment("settled", decided_at_s=NOW_S + 86_400), "limits_hold"),
    "paid without a consent": (lambda e: e.consents.clear(), "limits_hold"),
    "a limit is passed by exempt payments": (
        lambda e: e.usage.append(UsageRow(PARTNER, CONSENT, "exempt/KRW", str(VALID_FROM_S), 8_001, 1)),
        "limits_hold",
    ),
    "an exempt payment too many": (
        lambda e: e.usage.append(UsageRow(PARTNER, CONSENT, "exempt/KRW", str(VALID_FROM_S), 100, 2)),
        "limits_hold",
    ),
    "another customer's card": (
        lambda e: e.tokens.update({TOKEN: TokenRow(TOKEN, "somebody", {PARTNER: None})}),
        "cards_are_their_customers",
    ),
    "a card of nobody": (change_payment("settled", funding_token="other"), "cards_are_their_customers"),
    "a card of another partner": (
        lambda e: e.tokens.update({TOKEN: TokenRow(TOKEN, CUSTOMER, {"other": None})}),
        "cards_are_their_customers",
    ),
    "a card that was withdrawn before": (
        lambda e: e.tokens.update({TOKEN: TokenRow(TOKEN, CUSTOMER, {PARTNER: NOW_S - 1.0})}),
        "cards_are_their_customers",
    ),
    "sent without a proof": (lambda e: e.proofs_used.clear(), "proofs_hold"),
    "an inquiry is open": (
        lambda e: e.inquiries.append(InquiryRow("partner", payment_id("settled"), closed=False)),
        "reversals_closed",
    ),
    "more proofs than orders": (lambda e: e.proofs_used.update((payment_id("settled"),) * 2), "proofs_hold"),
    "a proof and an exemption": (change_payment("settled", windows=f"{WINDOWS}{EXEMPT}"), "proofs_hold"),
    "exempt without counting": (change_payment("reversed", windows=WINDOWS), "proofs_hold"),
    "exempt, and too much": (change_payment("reversed", amount_minor=8_001), "proofs_hold"),
    "exempt in another currency": (change_payment("reversed", currency="USD"), "proofs_hold"),
    "exempt since a moment when nothing was proven": (
        change_payment("reversed", windows=f"{WINDOWS} exempt/KRW@{NOW_S - 1}"),
        "proofs_hold",
    ),
    "exempt under a consent without an exemption": (
        lambda e: e.consents.update(
            {(PARTNER, CONSENT): e.consents[PARTNER, CONSENT]._replace(exemption=None)},
        ),
        "proofs_hold",
    ),
    "an outbox row is dropped": (drop_event("settled", 2), "events_complete"),
    "the last event is dropped": (drop_event("settled", 3), "events_complete"),
    "events overtake each other": (swap_events, "events_complete"),
    "an event is told twice": (lambda e: e.events.append(event("declined", 2, "declined", "AM04")), "events_complete"),
    "an event of another state": (
        lambda e: e.events.__setitem__(2, e.events[2]._replace(state="reversed", kind="payment.reversed")),
        "events_complete",
    ),
    "another partner is told": (
        lambda e: e.events.__setitem__(0, e.events[0]._replace(topic="mypay.events.other")),
        "events_complete",
    ),
    "a payment that does not exist is told": (lambda e: e.events.append(event("ghost", 1, "sent")), "events_complete"),
    "another reason is told": (change_payment("declined", reason_code="AM14"), "events_complete"),
    "a refusal is not told": (
        lambda e: e.events.remove(next(v for v in e.events if v.reason_code == "DS17")),
        "refusals_told",
    ),
    "a refusal is told and not recorded": (
        lambda e: e.events.append(EventRow(TOPIC, "z", "order.refused", "mypay.orders/0/1", None, None, "DS17", 0)),
        "refusals_told",
    ),
    "a refusal is told twice": (
        lambda e: e.events.append(next(v for v in e.events if v.reason_code == "DS17")),
        "refusals_told",
    ),
    "a consent's change is not told": (
        lambda e: e.events.remove(next(v for v in e.events if v.kind == "consent.changed")),
        "consents_told",
    ),
    "a consent's change is told twice": (
        lambda e: e.events.append(next(v for v in e.events if v.kind == "consent.changed")),
        "consents_told",
    ),
    "a change of an unknown consent is told": (
        lambda e: e.events.append(EventRow(TOPIC, "z", "consent.changed", "c-9", "CANC", 1, None, 0)),
        "consents_told",
    ),
    "the relay stands still": (lambda e: setattr(e, "outbox_unrelayed", 3), "outbox_relayed"),
    "a dead letter lost its bytes": (
        lambda e: e.dead_letters.__setitem__(0, e.dead_letters[0]._replace(digest=b"")),
        "dead_letters_whole",
    ),
    "a forged record is parked nowhere": (lambda e: e.forged.append(FORGERY), "forged_refused"),
    "a dead letter without a reason": (
        lambda e: e.dead_letters.__setitem__(0, e.dead_letters[0]._replace(error="")),
        "dead_letters_whole",
    ),
}


FORGERY = Forged("mypay.dispatch.bcard", 0, 7, b"forged", PARTNER, "forged-1", payment_id("forged-1"))


def with_forgery(*, error: str = "UntrustedRecordError", digest: bytes = b"forged") -> Evidence:
    evidence = balanced()
    evidence.forged = [FORGERY]
    evidence.dead_letters = [*evidence.dead_letters, DeadLetterRow(*FORGERY[:3], error, digest)]
    return evidence


def test_what_is_forged_for_execution_must_be_parked_unpaid_and_untold() -> None:
    assert failing(with_forgery()) == set()
    # Another cause than the mark, or other bytes; parked nowhere.
    assert failing(with_forgery(error="DecodeError")) == {"forged_refused"}
    assert failing(with_forgery(digest=b"other")) == {"dead_letters_whole"}
    silent = with_forgery()
    silent.dead_letters.pop()
    assert failing(silent) == {"forged_refused"}
    paid = with_forgery()
    paid.payments[PARTNER, FORGERY.payment_id] = next(iter(paid.payments.values()))
    assert "forged_refused" in failing(paid)
    told = with_forgery()
    told.refusals.append(RefusalRow(PARTNER, "mypay.dispatch.bcard/0/7", "forged-1", "AM05"))
    assert "forged_refused" in failing(told)
    heard = with_forgery()
    heard.events.append(heard.events[0]._replace(subject=str(FORGERY.payment_id)))
    assert "forged_refused" in failing(heard)


def test_balanced_books_pass_every_check() -> None:
    evidence = balanced()
    assert failing(evidence) == set()
    counts = endings_of(evidence).counts()
    assert counts == {
        Ending.SETTLED: 2,
        Ending.DECLINED: 1,
        Ending.REVERSED: 2,
        Ending.REJECTED: 4,
        Ending.DEAD_LETTER: 1,
    }
    assert counts.total() == len(evidence.produced)


@pytest.mark.parametrize("wrong", PLANTED)
def test_a_planted_error_is_caught_by_its_own_check(wrong: str) -> None:
    plant, check = PLANTED[wrong]
    evidence = balanced()
    plant(evidence)
    assert check in failing(evidence)


def test_an_exemption_starts_anew_with_a_proven_payment() -> None:
    evidence = balanced()
    change_payment("settled", decided_at_s=NOW_S + 0.25)(evidence)
    change_payment("reversed", windows=f"{WINDOWS} exempt/KRW@{NOW_S}.250000")(evidence)
    assert failing(evidence) == set()


def test_where_no_proof_is_asked_for_none_is_missed() -> None:
    evidence = balanced()
    evidence.proof_free = None
    evidence.proofs_used.clear()
    assert failing(evidence) == set()


def test_an_order_refused_for_its_id_may_have_used_its_own_proof_up() -> None:
    evidence = balanced()
    evidence.proofs_used.update((payment_id("settled"),))
    assert failing(evidence) == set()


def test_every_check_has_a_planted_error() -> None:
    evidence = balanced()
    names = {c.name for c in check_books(evidence, endings_of(evidence))}
    assert names == {check for _, check in PLANTED.values()}


def test_redelivery_allows_what_it_causes_and_nothing_else() -> None:
    evidence = balanced()
    settled = str(payment_id("settled"))
    evidence.dead_letters.append(evidence.dead_letters[0])
    evidence.events.append(event("settled", 3, "settled"))
    evidence.events.append(
        EventRow(TOPIC, f"{settled}:3:mypay.orders/0/0", "payment.reported", settled, "settled", 3, None, 0)
    )
    assert failing(evidence) == {"records_end_once", "events_complete"}
    assert failing(evidence, redelivery=True) == set()
    evidence.events.append(event("settled", 4, "reversed"))
    assert failing(evidence, redelivery=True) == {"events_complete"}


def test_planted_breaks_can_be_allowed() -> None:
    evidence = balanced()
    evidence.clearing.append(ClearingRow(NETWORK, "20261123-0001", 2, "RRNnone", 1, "KRW", None, "missing_here"))
    assert failing(evidence, breaks_allowed=True) == set()


def test_a_broken_rule_counts_everything_and_names_the_first_few() -> None:
    evidence = Evidence(produced=[p._replace(offset=n) for n, p in enumerate(balanced().produced[:1] * 100)])
    told = next(c for c in check_books(evidence, endings_of(evidence)) if c.name == "records_end_once")
    assert (told.violation_count, len(told.violations)) == (100, NAMED_MAX)


def test_amounts_are_never_named() -> None:
    amounts = {str(a) for a in AMOUNTS.values()}
    for plant, _ in PLANTED.values():
        evidence = balanced()
        plant(evidence)
        told = " ".join(v for c in check_books(evidence, endings_of(evidence)) for v in c.violations)
        assert not amounts & set(told.split())


def test_a_refund_is_the_opposite_of_a_purchase() -> None:
    evidence = balanced()
    payment: PaymentRow = evidence.payments[key("undone")]
    original = payment_id("settled")
    evidence.payments[key("undone")] = payment._replace(operation="refund", original_payment_id=original)
    place = next(n for n, r in enumerate(evidence.produced) if r.label == "undone")
    facts = order("undone")._replace(original_payment_id=original)
    evidence.produced[place] = evidence.produced[place]._replace(order=facts)
    change_entry("undone", operation="refund")(evidence)
    assert "ledger_fits" in failing(evidence)
    evidence.transfers = [
        t._replace(debit=t.credit, credit=t.debit) if t.payment_id == payment.payment_id else t
        for t in evidence.transfers
    ]
    assert failing(evidence) == set()


def transfers_of(evidence: Evidence, name: str, kind: str) -> list[TransferRow]:
    return [t for t in evidence.transfers if t.payment_id == payment_id(name) and t.kind == kind]


def turned(row: TransferRow) -> TransferRow:
    return row._replace(kind="settlement_undone", debit=row.credit, credit=row.debit)


def test_a_settlement_may_be_booked_back_and_made_again() -> None:
    evidence = balanced()
    [settled] = transfers_of(evidence, "settled", "settled")
    evidence.transfers += [turned(settled), settled, turned(settled), settled]
    assert failing(evidence) == set()


def test_a_settlement_that_was_booked_back_once_too_often_or_forth_is_found() -> None:
    for more in (1, 2):
        evidence = balanced()
        [settled] = transfers_of(evidence, "settled", "settled")
        evidence.transfers += [turned(settled)] * more
        assert failing(evidence) >= {"ledger_fits"}
    evidence = balanced()
    [settled] = transfers_of(evidence, "settled", "settled")
    evidence.transfers += [settled._replace(kind="settlement_undone"), settled]
    assert failing(evidence) >= {"ledger_fits"}
