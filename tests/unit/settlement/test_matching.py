"""Settlement on fakes: what matches is settled once, what does not is a break, and nothing bad stops the rest."""

import asyncio
import dataclasses
import json
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs
from msgspec.structs import replace

from gateway.base.errors import PublisherUnavailableError, StoreConflictError, StoreUnavailableError
from gateway.consents.rules.limits import Usage
from gateway.payments.cancellations.rules import judge_payment
from gateway.payments.rules.lifecycle import PaymentEventKind
from gateway.payments.rules.payment import Change
from gateway.payments.transitions import apply_changes
from gateway.proving.memory import Behaviour, Fate
from gateway.settlement.rules import BreakKind
from schemas.clearing import CLEARING_TYPE, ClearingBatch, ClearingKind, ClearingRecord
from schemas.codec import encode
from schemas.consents import Period, PeriodLimit
from schemas.envelope import Envelope, write_envelope
from schemas.events import CycleSettled, EventType
from schemas.primitives import MerchantId
from schemas.reasons import Reason, ReasonCode
from schemas.topics import SETTLEMENTS
from tests.support.builders import (
    NETWORK,
    NOW,
    clearing_message,
    clearing_record,
    dispatched_record,
    numbered_order,
    payment,
)
from tests.support.domain_samples import consent, krw, merchant, purpose
from tests.support.rig import Rig

AWAY = StoreUnavailableError("away")


@pytest.fixture
async def rig() -> Rig:
    """Orders 1 to 3 are approved, 4 is declined, 5 is unknown."""
    codes = {4: Behaviour(code="51"), 5: Behaviour(Fate.ANSWER_LOST)}
    rig = Rig(lambda request: codes.get(request.amount_minor // 1000, Behaviour()))
    limit = PeriodLimit(period=Period.DAY, max_amount=krw(100_000))
    rig.database.put_consent(consent(payment=purpose(period_limits=(limit,))))
    placed = [numbered_order(n, amount=krw(n * 1000)) for n in range(1, 6)]
    await rig.execute([dispatched_record(o, offset=n) for n, o in enumerate(placed)])
    return rig


def cleared(rig: Rig, number: int, record_no: int | None = None, **fields: Any) -> ClearingRecord:
    return clearing_record(rig.payment(number), record_no or number, **fields)


def batch(*records: ClearingRecord, chunk: int = 1, cycle_id: str = "c1") -> ClearingBatch:
    return ClearingBatch(network_id=NETWORK, cycle_id=cycle_id, chunk=chunk, records=records)


def breaks(rig: Rig) -> dict[int, BreakKind]:
    return {number: row.found.kind for (_, _, number), row in rig.database.clearing.rows.items() if row.found}


def cycles(rig: Rig) -> list[CycleSettled]:
    events = [e for e in rig.events() if e.event_type == EventType.CYCLE_SETTLED]
    assert {e.topic for e in events} <= {SETTLEMENTS}
    return [CycleSettled.model_validate_json(e.body) for e in events]


async def test_what_matches_is_settled_posted_and_told(rig: Rig) -> None:
    await rig.settlement.take([clearing_message(batch(*(cleared(rig, n) for n in (1, 2, 3))))])
    assert [rig.states()[f"order-{n}"] for n in (1, 2, 3)] == ["settled"] * 3
    assert (rig.payment(1).version, breaks(rig)) == (3, {})
    assert rig.ledger_kinds() == ["authorised"] * 3 + ["settled"] * 3
    assert set(rig.balances().values()) == {0}
    assert rig.told(str(rig.payment(1).payment_id)) == ["payment.sent", "payment.approved", "payment.settled"]
    (told,) = cycles(rig)
    assert (told.network_id, told.cycle_id, told.chunk, told.matched, told.breaks) == (NETWORK, "c1", 1, 3, 0)
    assert [(p.merchant_id, p.count, p.net_minor) for p in told.positions] == [("merchant-1", 3, 6000)]
    # Order 5 is in flight, and the settled ones stand.
    assert rig.used() == {Usage(11_000, 4)}
    assert {row.payment for row in rig.database.clearing.rows.values()} == {rig.payment(n).key for n in (1, 2, 3)}
    assert rig.observer.counted("settlement", "settled") == 3


class Steps:
    """In place of the pace: tells what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def wait(self) -> None:
        self.asked.append("wait")

    def begin(self) -> None:
        self.asked.append("begin")

    def end(self) -> None:
        self.asked.append("end")


async def test_between_a_cycles_messages_it_rests_unless_they_have_waited_for_long(rig: Rig) -> None:
    steps = Steps()
    rig.settlement._pace = steps  # type: ignore[assignment]
    now_ms = round(rig.clock.now().timestamp() * 1000)
    messages = [clearing_message(batch(cleared(rig, n), chunk=n)) for n in (1, 2, 3)]
    await rig.settlement.take([replace(m, timestamp_ms=now_ms - 1_000) for m in messages])
    assert steps.asked == ["wait", "begin", "end"] * 3
    steps.asked.clear()
    await rig.settlement.take([replace(m, timestamp_ms=now_ms - 1_600) for m in messages])
    assert steps.asked == ["begin", "end"] * 3


async def test_a_merchant_from_before_todays_rules_for_ids_is_settled(rig: Rig) -> None:
    from_before = "4111111111111111"
    rig.database.payments.rows[rig.payment(1).key] = replace(rig.payment(1), merchant_id=MerchantId(from_before))
    await rig.settlement.take([clearing_message(batch(*(cleared(rig, n) for n in (1, 2))))])
    assert [rig.states()[f"order-{n}"] for n in (1, 2)] == ["settled"] * 2
    (told,) = [json.loads(e.body) for e in rig.events() if e.event_type == EventType.CYCLE_SETTLED]
    assert [p["merchant_id"] for p in told["positions"]] == [from_before, "merchant-1"]


# fmt: off
B = BreakKind
BREAKS = {
    # what the network says    payment, otherwise
    "an RRN that nobody knows": (1, {"rrn": "0" * 12},                 B.MISSING_HERE),
    "another STAN":             (1, {"stan": 999_999},                 B.TRACE_DIFFERS),
    "another terminal":         (1, {"terminal_id": "GW000009"},       B.TRACE_DIFFERS),
    "another amount":           (1, {"amount_minor": 999},             B.AMOUNT_DIFFERS),
    "another currency":         (1, {"currency": "USD"},               B.AMOUNT_DIFFERS),
    "another acceptor":         (1, {"acceptor_id": "ACCEPTOR2"},      B.ACCEPTOR_DIFFERS),
    "a refund":                 (1, {"kind": ClearingKind.REFUND},     B.KIND_DIFFERS),
    "a declined payment":       (4, {},                                B.NOT_APPROVED),
    "an unknown payment":       (5, {},                                B.NOT_APPROVED),
}
# fmt: on


@pytest.mark.parametrize("case", BREAKS)
async def test_what_does_not_match_is_a_break_and_its_neighbours_settle(rig: Rig, case: str) -> None:
    number, otherwise, kind = BREAKS[case]
    rig.settlement = rig.new_settlement(too_early_s=0.0)
    before = rig.payment(number)
    await rig.settlement.take([clearing_message(batch(cleared(rig, number, 9, **otherwise), cleared(rig, 2)))])
    assert breaks(rig) == {9: kind}
    assert rig.payment(number) == before
    assert rig.states()["order-2"] == "settled"
    assert [(c.matched, c.breaks) for c in cycles(rig)] == [(1, 1)]
    assert rig.ledger_kinds() == ["authorised"] * 3 + ["settled"]
    assert rig.observer.counts["settlement", "break", kind.value] == 1
    known = kind is not BreakKind.MISSING_HERE
    assert rig.database.clearing.rows[NETWORK, "c1", 9].payment == (before.key if known else None)  # type: ignore[index]


async def test_a_break_is_matched_again_once_its_payment_is_approved_after_all(rig: Rig) -> None:
    rig.settlement = rig.new_settlement(too_early_s=0.0)
    await rig.settlement.take([clearing_message(batch(cleared(rig, 5), cleared(rig, 1)))])
    assert breaks(rig) == {5: BreakKind.NOT_APPROVED}
    assert await rig.settlement.match_again() == 0
    async with rig.store.transaction() as uow:
        key = rig.payment(5).key
        await uow.reversals.take_away([key], now=rig.clock.now())
        await apply_changes(uow, [Change(key, PaymentEventKind.INQUIRY_APPROVED)], now=rig.clock.now())
    both = await asyncio.gather(rig.settlement.match_again(), rig.new_settlement().match_again())
    assert sorted(both) == [0, 1]
    assert (rig.states()["order-5"], breaks(rig)) == ("settled", {})
    assert [(c.chunk, c.matched, c.breaks) for c in cycles(rig)][1:] == [(0, 1, 0)]
    assert rig.ledger_kinds().count("settled") == 2
    assert await rig.settlement.match_again() == 0


@pytest.mark.parametrize(
    ("records", "kinds", "state"),
    [
        # Beside its own record another one of its number: the money of the second is nobody's.
        ((5, 6), {6: BreakKind.DUPLICATE}, "settled"),
        # By another amount than was approved.
        ((7,), {7: BreakKind.AMOUNT_DIFFERS}, "approved"),
    ],
)
async def test_what_does_not_match_when_its_payment_is_approved_after_all_is_told_for_what_it_is_now(
    rig: Rig, records: tuple[int, ...], kinds: dict[int, BreakKind], state: str
) -> None:
    rig.settlement = rig.new_settlement(too_early_s=0.0)
    otherwise = {7: {"amount_minor": 999}}
    await rig.settlement.take([clearing_message(batch(*(cleared(rig, 5, n, **otherwise.get(n, {})) for n in records)))])
    assert breaks(rig) == dict.fromkeys(records, BreakKind.NOT_APPROVED)
    async with rig.store.transaction() as uow:
        key = rig.payment(5).key
        await uow.reversals.take_away([key], now=rig.clock.now())
        await apply_changes(uow, [Change(key, PaymentEventKind.INQUIRY_APPROVED)], now=rig.clock.now())
    await rig.settlement.match_again()
    assert (breaks(rig), rig.states()["order-5"]) == (kinds, state)
    # That it is a break was told; nothing more is looked at again.
    assert [c.breaks for c in cycles(rig)] == [len(records), *([0] if state == "settled" else [])]
    async with rig.store.transaction() as uow:
        assert await uow.clearing.moved_since(10) == []


async def test_an_acceptor_that_the_directory_learns_of_settles_and_one_of_before_still_does(rig: Rig) -> None:
    await rig.settlement.take([clearing_message(batch(cleared(rig, 1, acceptor_id="ACCEPTOR2")))])
    assert await rig.settlement.match_again() == 0
    assert breaks(rig) == {1: BreakKind.ACCEPTOR_DIFFERS}
    known = merchant()
    rig.database.put_merchant(structs.replace(known, acceptor=structs.replace(known.acceptor, acceptor_id="ACCEPTOR2")))
    assert await rig.settlement.match_again() == 1
    assert breaks(rig) == {}
    # What was sent before that comes under the id of that time.
    await rig.settlement.take([clearing_message(batch(cleared(rig, 2)))])
    assert [rig.states()[f"order-{n}"] for n in (1, 2)] == ["settled"] * 2


async def test_an_outcome_that_is_found_in_time_settles(rig: Rig) -> None:
    rig.network.script = lambda _: Behaviour()
    rig.faults.hold("clearing.lock", visit=2)  # the first look was too early
    settling = asyncio.create_task(rig.settlement.take([clearing_message(batch(cleared(rig, 5)))]))
    await rig.faults.reached("clearing.lock")
    async with rig.store.transaction() as uow:
        key = rig.payment(5).key
        await uow.reversals.take_away([key], now=rig.clock.now())
        await apply_changes(uow, [Change(key, PaymentEventKind.INQUIRY_APPROVED)], now=rig.clock.now())
    rig.faults.open("clearing.lock")
    await settling
    assert rig.states()["order-5"] == "settled"
    assert breaks(rig) == {}


async def test_a_reversed_payment_that_was_cleared_is_a_break(rig: Rig) -> None:
    rig.network.script = lambda _: Behaviour()
    assert await rig.reversals.work() == 1
    await rig.settlement.take([clearing_message(batch(cleared(rig, 5)))])
    assert breaks(rig) == {5: BreakKind.REVERSED_BUT_CLEARED}
    assert rig.states()["order-5"] == "reversed"


@pytest.mark.parametrize("code", ["00", "25"])
async def test_that_a_cleared_payment_was_undone_after_all_is_told(rig: Rig, code: str) -> None:
    rig.settlement = rig.new_settlement(too_early_s=0.0)
    await rig.settlement.take([clearing_message(batch(cleared(rig, 5)))])
    assert breaks(rig) == {5: BreakKind.NOT_APPROVED}
    rig.network.script = lambda _: Behaviour(code=code)
    assert await rig.reversals.work() == 1
    assert await rig.settlement.match_again() == 0
    assert (breaks(rig), rig.states()["order-5"]) == ({5: BreakKind.REVERSED_BUT_CLEARED}, "reversed")


async def test_a_payment_cleared_twice_settles_once(rig: Rig) -> None:
    twice = batch(cleared(rig, 1, 1), cleared(rig, 1, 2))
    await rig.settlement.take([clearing_message(twice)])
    await rig.settlement.take([clearing_message(batch(cleared(rig, 1, 1), cycle_id="c2"))])
    assert [row.found and row.found.kind for row in rig.database.clearing.rows.values()] == [
        None,
        BreakKind.DUPLICATE,
        BreakKind.DUPLICATE,
    ]
    assert rig.ledger_kinds().count("settled") == 1


async def test_importing_twice_changes_nothing(rig: Rig) -> None:
    message = clearing_message(batch(cleared(rig, 1), cleared(rig, 4)))
    await rig.settlement.take([message])
    told, rows = rig.told(), dict(rig.database.clearing.rows)
    await rig.settlement.take([message, message])
    assert (rig.told(), rig.database.clearing.rows) == (told, rows)


async def test_a_chunk_that_grew_settles_what_is_new(rig: Rig) -> None:
    await rig.settlement.take([clearing_message(batch(cleared(rig, 1)))])
    await rig.settlement.take([clearing_message(batch(cleared(rig, 1), cleared(rig, 2)))])
    assert [rig.states()[f"order-{n}"] for n in (1, 2)] == ["settled", "settled"]
    assert [(c.matched, c.positions[0].net_minor) for c in cycles(rig)] == [(1, 1000), (1, 2000)]


def loose(rig: Rig, *bad: Any) -> bytes:
    body = json.loads(encode(batch(cleared(rig, 1), cleared(rig, 2))))
    body["records"][1:1] = bad
    return json.dumps(body).encode()


async def test_a_bad_record_is_parked_alone(rig: Rig) -> None:
    bad = [{"record_no": 7}, "junk", None, {**json.loads(encode(cleared(rig, 3))), "amount_minor": "3000"}]
    await rig.settlement.take([clearing_message(loose(rig, *bad))])
    assert [json.loads(p.record.value) for p in rig.dead_letters.parked] == bad
    assert [rig.states()[f"order-{n}"] for n in (1, 2, 3)] == ["settled", "settled", "approved"]
    assert rig.observer.counted("settlement", "dead_letter") == 4


async def test_a_message_of_bad_records_alone_is_parked_record_by_record(rig: Rig) -> None:
    body = json.loads(loose(rig))
    body["records"] = [1, 2]
    await rig.settlement.take([clearing_message(json.dumps(body).encode())])
    assert [p.record.value for p in rig.dead_letters.parked] == [b"1", b"2"]
    assert cycles(rig) == []


@pytest.mark.parametrize("body", [b"junk", b"{}", b"[]", b'{"network_id": "net-a"}', b" " * (512 * 1024 + 1)])
async def test_a_message_that_is_no_clearing_is_parked_whole_and_the_next_is_settled(rig: Rig, body: bytes) -> None:
    good = clearing_message(batch(cleared(rig, 1)), offset=2)
    await rig.settlement.take([clearing_message(body, offset=1), good])
    assert [p.record.offset for p in rig.dead_letters.parked] == [1]
    assert rig.states()["order-1"] == "settled"


async def test_a_message_of_another_type_is_parked(rig: Rig) -> None:
    await rig.settlement.take([clearing_message(batch(cleared(rig, 1)), type_="kr.mypay.other.v1")])
    assert len(rig.dead_letters.parked) == 1
    assert rig.states()["order-1"] == "approved"


# --- a record that comes before its payment's result ---


async def test_a_record_waits_for_a_result_that_is_on_its_way(rig: Rig) -> None:
    rig.network.script = lambda _: Behaviour()
    rig.faults.hold("network.answer")
    executing = asyncio.create_task(rig.execute([dispatched_record(numbered_order(6, amount=krw(600)))]))
    await rig.faults.reached("network.answer")
    settling = asyncio.create_task(rig.settlement.take([clearing_message(batch(cleared(rig, 6), cleared(rig, 1)))]))
    looks = rig.faults.places.count("clearing.payments_by_rrn")
    await rig.faults.visited("clearing.payments_by_rrn", looks + 3)
    assert rig.states()["order-1"] == "approved"
    assert rig.database.clearing.rows == {}
    rig.faults.open("network.answer")
    await executing
    await settling
    assert (rig.states()["order-6"], rig.states()["order-1"]) == ("settled", "settled")
    assert rig.told(str(rig.payment(6).payment_id)) == ["payment.sent", "payment.approved", "payment.settled"]


async def test_a_network_that_never_answers_holds_up_no_other_with_each_of_its_messages(rig: Rig) -> None:
    """All networks' messages stand in one row: each of these was waited for anew."""
    rig.settlement = rig.new_settlement(too_early_s=5.0)
    rig.clock.advance(5.0)
    messages = [clearing_message(batch(cleared(rig, 5, n), chunk=n), offset=n) for n in (1, 2)]
    await rig.settlement.take([*messages, clearing_message(batch(cleared(rig, 1, 3), chunk=3), offset=3)])
    assert rig.faults.places.count("clearing.payments_by_rrn") == 3
    assert breaks(rig) == {1: BreakKind.NOT_APPROVED, 2: BreakKind.NOT_APPROVED}
    assert rig.states()["order-1"] == "settled"


async def test_a_record_does_not_wait_for_ever(rig: Rig) -> None:
    hasty = rig.new_settlement(too_early_s=0.0)
    async with rig.store.transaction() as uow:
        await uow.payments.insert([payment(60)])
    await hasty.take([clearing_message(batch(clearing_record(payment(60), 60), cleared(rig, 1)))])
    assert breaks(rig) == {60: BreakKind.NOT_APPROVED}
    assert (rig.states()["order-60"], rig.states()["order-1"]) == ("sent", "settled")


# --- outages ---


# fmt: off
OUTAGES = [
    ("store.begin",              (AWAY,)),
    ("clearing.add",             (StoreConflictError("lost"), AWAY)),
    ("clearing.payments_by_rrn", (StoreConflictError("deadlock"),)),
    ("clearing.lock",            (AWAY,)),
    ("store.commit",             (AWAY,)),
    ("store.committed",          (AWAY,)),
]
# fmt: on


@pytest.mark.parametrize(("place", "errors"), OUTAGES)
async def test_an_outage_is_waited_out_in_place_and_all_is_settled_once(
    rig: Rig, place: str, errors: tuple[Exception, ...]
) -> None:
    rig.faults.plan(place, *errors)
    await rig.settlement.take([clearing_message(batch(cleared(rig, 1), cleared(rig, 4)))])
    assert rig.faults.pending == 0
    assert (rig.states()["order-1"], breaks(rig)) == ("settled", {4: BreakKind.NOT_APPROVED})
    assert rig.ledger_kinds().count("settled") == 1
    assert len(cycles(rig)) == 1


async def test_parking_waits_for_kafka(rig: Rig) -> None:
    rig.faults.plan("dead_letters.park", PublisherUnavailableError("away"))
    await rig.settlement.take([clearing_message(b"junk"), clearing_message(batch(cleared(rig, 1)))])
    assert len(rig.dead_letters.parked) == 1
    assert rig.states()["order-1"] == "settled"


async def test_two_workers_that_import_one_file_settle_it_once(rig: Rig) -> None:
    message = clearing_message(batch(*(cleared(rig, n) for n in (1, 2, 3))))
    other = rig.new_settlement()
    await asyncio.gather(rig.settlement.take([message]), other.take([message]))
    assert rig.ledger_kinds().count("settled") == 3
    assert sum(c.matched for c in cycles(rig)) == 3


# --- corrections ---


def corrected(rig: Rig, *records: ClearingRecord, minutes: int = 1, offset: int = 9) -> Any:
    envelope = Envelope(f"cl-{offset}", "/network", CLEARING_TYPE, NOW + timedelta(minutes=minutes))
    return replace(clearing_message(batch(*records), offset=offset), headers=tuple(write_envelope(envelope)))


def off(rig: Rig, number: int, minor: int = 1) -> ClearingRecord:
    right = cleared(rig, number)
    return right.model_copy(update={"amount_minor": right.amount_minor + minor})


def owed(rig: Rig) -> int:
    return sum(v for k, v in rig.balances().items() if k.startswith("network:"))


@pytest.mark.parametrize("minutes", [0, 1])
async def test_a_correction_closes_the_break_and_settles(rig: Rig, minutes: int) -> None:
    await rig.settlement.take([clearing_message(batch(off(rig, 1), cleared(rig, 2)))])
    assert (breaks(rig), rig.states()["order-1"]) == ({1: BreakKind.AMOUNT_DIFFERS}, "approved")
    await rig.settlement.take([corrected(rig, cleared(rig, 1), cleared(rig, 2), minutes=minutes)])
    assert (breaks(rig), rig.states()["order-1"]) == ({}, "settled")
    assert rig.ledger_kinds().count("settled") == 2
    told = cycles(rig)[-1]
    assert (told.matched, told.breaks, [p.net_minor for p in told.positions]) == (1, 0, [1000])
    [correction] = told.corrections
    assert (correction.record_no, correction.changed) == (1, ("amount_minor",))
    assert (correction.amount_minor_before, correction.amount_minor, correction.payment_id_before) == (1001, 1000, None)
    # Both are kept.
    [aside] = rig.database.clearing_superseded.rows.values()
    assert (aside.record.amount_minor, aside.found and aside.found.kind) == (1001, BreakKind.AMOUNT_DIFFERS)
    assert rig.observer.counted("settlement", "corrected") == 1


async def test_a_correction_of_what_was_settled_books_it_back_and_forth(rig: Rig) -> None:
    before = owed(rig)
    for round_, (record, state) in enumerate(
        [
            (cleared(rig, 1), "settled"),
            (off(rig, 1), "approved"),
            (cleared(rig, 1), "settled"),
            (off(rig, 1), "approved"),
        ]
    ):
        await rig.settlement.take([corrected(rig, record, minutes=round_)])
        assert rig.states()["order-1"] == state
        # What was corrected is told for as long as it is so, and what the network has cleared is not undone beside it.
        assert (rig.payment(1).reason is None) == (state == "settled")
        effect = judge_payment(rig.payment(1), 0, None, NOW)
        assert isinstance(effect, Reason)
        assert (effect.code, "refund it instead" in effect.text) == (ReasonCode.TM01, True)
        assert owed(rig) == before - (1000 if state == "settled" else 0)
        assert sum(rig.balances().values()) == 0
    kinds = rig.ledger_kinds()
    assert (kinds.count("settled"), kinds.count("settlement_undone")) == (2, 2)
    assert breaks(rig) == {1: BreakKind.AMOUNT_DIFFERS}
    told = rig.told(str(rig.payment(1).payment_id))
    assert told[-4:] == ["payment.settled", "payment.approved", "payment.settled", "payment.approved"]
    reason = rig.payment(1).reason
    assert reason is not None
    assert (reason.code.value, reason.text) == (
        "NARR",
        "the network corrected amount_minor in its clearing (cycle c1, record 1); settled no more",
    )
    assert [[(p.count, p.net_minor) for p in c.positions] for c in cycles(rig)] == [
        [(1, 1000)],
        [(-1, -1000)],
        [(1, 1000)],
        [(-1, -1000)],
    ]
    assert len({e.event_id for e in rig.events() if e.topic == SETTLEMENTS}) == 4


async def test_a_correction_may_name_another_payment_and_two_may_change_places(rig: Rig) -> None:
    one, two, three = (cleared(rig, n) for n in (1, 2, 3))
    await rig.settlement.take([clearing_message(batch(one, two))])
    swapped = (two.model_copy(update={"record_no": 1}), one.model_copy(update={"record_no": 2}))
    await rig.settlement.take([corrected(rig, *swapped)])
    assert [rig.states()[f"order-{n}"] for n in (1, 2, 3)] == ["settled", "settled", "approved"]
    await rig.settlement.take([corrected(rig, three.model_copy(update={"record_no": 1}), minutes=2)])
    assert [rig.states()[f"order-{n}"] for n in (1, 2, 3)] == ["settled", "approved", "settled"]
    assert breaks(rig) == {}


async def test_a_record_that_was_a_duplicate_settles_once_the_one_before_it_is_corrected(rig: Rig) -> None:
    one, two = cleared(rig, 1), cleared(rig, 2)
    wrong = two.model_copy(update={"record_no": 1})
    await rig.settlement.take([clearing_message(batch(wrong, two))])
    assert (breaks(rig), rig.states()["order-2"]) == ({2: BreakKind.DUPLICATE}, "settled")
    await rig.settlement.take([corrected(rig, one, two)])
    assert (rig.states()["order-1"], rig.states()["order-2"]) == ("settled", "approved")
    assert await rig.settlement.match_again() == 1
    assert (breaks(rig), rig.states()["order-2"]) == ({}, "settled")
    assert rig.ledger_kinds().count("settled") - rig.ledger_kinds().count("settlement_undone") == 2
    assert await rig.settlement.match_again() == 0


async def test_a_correction_follows_what_was_taken_before_files_from_the_future_were_refused(rig: Rig) -> None:
    first = clearing_message(batch(off(rig, 1)))
    await rig.settlement.take([first, corrected(rig, off(rig, 1, 7), minutes=1)])
    ((key, row),) = rig.database.clearing.rows.items()
    rig.database.clearing.rows[key] = dataclasses.replace(row, created_at=rig.clock.now() + timedelta(days=3650))
    await rig.settlement.take([first])
    assert rig.observer.counted("settlement", "stale") == 1
    await rig.settlement.take([corrected(rig, cleared(rig, 1), minutes=2)])
    assert (breaks(rig), rig.states()["order-1"]) == ({}, "settled")
    # It is of its own age then.
    await rig.settlement.take([corrected(rig, off(rig, 1, 9), minutes=1)])
    assert rig.states()["order-1"] == "settled"


async def test_an_older_file_and_a_superseded_record_that_comes_again_change_nothing(rig: Rig) -> None:
    first = clearing_message(batch(off(rig, 1)))
    await rig.settlement.take([first, corrected(rig, cleared(rig, 1), minutes=0)])
    told, rows = rig.told(), dict(rig.database.clearing.rows)
    await rig.settlement.take([first, corrected(rig, off(rig, 1, 7), minutes=-1)])
    assert (rig.told(), rig.database.clearing.rows) == (told, rows)
    assert rig.observer.counted("settlement", "stale") == 2
    # A later file that says the same makes what lies between the two old.
    await rig.settlement.take([corrected(rig, cleared(rig, 1), minutes=9), corrected(rig, off(rig, 1, 8), minutes=5)])
    assert rig.states()["order-1"] == "settled"


async def test_a_message_from_the_future_is_parked_and_a_correction_still_counts(rig: Rig) -> None:
    day = 24 * 60
    await rig.settlement.take(
        [corrected(rig, off(rig, 1), minutes=day), corrected(rig, off(rig, 1, 7), minutes=day + 1)]
    )
    assert [p.record.offset for p in rig.dead_letters.parked] == [9]
    assert (breaks(rig), rig.states()["order-1"]) == ({1: BreakKind.AMOUNT_DIFFERS}, "approved")
    await rig.settlement.take([corrected(rig, cleared(rig, 1), minutes=day)])
    assert (breaks(rig), rig.states()["order-1"]) == ({}, "settled")


async def test_a_correction_of_a_reversed_payments_record_is_a_break_again(rig: Rig) -> None:
    await rig.settlement.take([clearing_message(batch(off(rig, 1)))])
    changes = [
        Change(rig.payment(1).key, kind) for kind in (PaymentEventKind.CANCELLED, PaymentEventKind.REVERSAL_CONFIRMED)
    ]
    async with rig.store.transaction() as uow:
        await apply_changes(uow, changes, now=rig.clock.now())
    await rig.settlement.take([corrected(rig, cleared(rig, 1))])
    assert breaks(rig) == {1: BreakKind.REVERSED_BUT_CLEARED}
    assert "settled" not in rig.ledger_kinds()


async def test_a_network_speaks_on_its_own_topic_alone(rig: Rig) -> None:
    message = replace(clearing_message(batch(cleared(rig, 1))), topic="mypay.clearing.net-b")
    await rig.settlement.take([message])
    assert rig.states()["order-1"] == "approved"
    assert rig.database.clearing.rows == {}
    assert [str(p.error) for p in rig.dead_letters.parked] == ["network_id: is not the network of this topic"]


async def test_a_number_that_stands_twice_in_a_message_counts_once(rig: Rig) -> None:
    await rig.settlement.take([clearing_message(batch(cleared(rig, 1), off(rig, 1)))])
    assert (rig.states()["order-1"], breaks(rig)) == ("settled", {})
    assert len(rig.dead_letters.parked) == 1
