"""Settlement on fakes: what matches is settled once, what does not is a break, and nothing bad stops the rest."""

import asyncio
import json
from typing import Any

import pytest

from gateway.adapters.memory import Behaviour, Fate
from gateway.domain.lifecycle import PaymentEventKind
from gateway.domain.limits import Usage
from gateway.domain.payment import Change
from gateway.domain.settlement import BreakKind
from gateway.ports import PublisherUnavailableError, StoreConflictError, StoreUnavailableError
from gateway.services.settlement import SettlementService, SettlementSettings
from gateway.services.transitions import apply_changes
from schemas.clearing import ClearingBatch, ClearingKind, ClearingRecord
from schemas.codec import encode
from schemas.consents import Period, PeriodLimit
from schemas.events import CycleSettled, EventType
from schemas.topics import SETTLEMENTS
from tests.builders import NETWORK, clearing_message, clearing_record, dispatched_record, numbered_order, payment
from tests.support.rig import Rig
from tests.unit.domain_samples import consent, krw, purpose

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
    # Order 5 is still reserved; the settled ones stay consumed.
    assert rig.used() == {Usage(5000, 1, 6000, 3)}
    assert {row.payment for row in rig.database.clearing.rows.values()} == {rig.payment(n).key for n in (1, 2, 3)}
    assert rig.observer.counted("settlement", "settled") == 3


# fmt: off
B = BreakKind
BREAKS = {
    # what the network says    payment, otherwise
    "an RRN that nobody knows": (1, {"rrn": "0" * 12},                 B.MISSING_HERE),
    "another STAN":             (1, {"stan": 999_999},                 B.TRACE_DIFFERS),
    "another terminal":         (1, {"terminal_id": "GW000009"},       B.TRACE_DIFFERS),
    "another amount":           (1, {"amount_minor": 999},             B.AMOUNT_DIFFERS),
    "another currency":         (1, {"currency": "USD"},               B.AMOUNT_DIFFERS),
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


async def test_an_outcome_that_is_found_in_time_settles(rig: Rig) -> None:
    rig.network.script = lambda _: Behaviour()
    rig.faults.hold("clearing.insert", visit=2)  # the first look was too early
    settling = asyncio.create_task(rig.settlement.take([clearing_message(batch(cleared(rig, 5)))]))
    await rig.faults.reached("clearing.insert")
    async with rig.store.transaction() as uow:
        key = rig.payment(5).key
        await uow.reversals.take_away([key], now=rig.clock.now())
        await apply_changes(uow, [Change(key, PaymentEventKind.INQUIRY_APPROVED)], now=rig.clock.now())
    rig.faults.open("clearing.insert")
    await settling
    assert rig.states()["order-5"] == "settled"
    assert breaks(rig) == {}


async def test_a_reversed_payment_that_was_cleared_is_a_break(rig: Rig) -> None:
    rig.network.script = lambda _: Behaviour()
    assert await rig.reversals.work() == 1
    await rig.settlement.take([clearing_message(batch(cleared(rig, 5)))])
    assert breaks(rig) == {5: BreakKind.REVERSED_BUT_CLEARED}
    assert rig.states()["order-5"] == "reversed"


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


async def test_a_record_does_not_wait_for_ever(rig: Rig) -> None:
    hasty = SettlementService(
        store=rig.store,
        dead_letters=rig.dead_letters,
        observer=rig.observer,
        clock=rig.clock,
        settings=SettlementSettings(too_early_s=0.0),
    )
    async with rig.store.transaction() as uow:
        await uow.payments.insert([payment(60)])
    await hasty.take([clearing_message(batch(clearing_record(payment(60), 60), cleared(rig, 1)))])
    assert breaks(rig) == {60: BreakKind.NOT_APPROVED}
    assert (rig.states()["order-60"], rig.states()["order-1"]) == ("sent", "settled")


# --- outages ---


# fmt: off
OUTAGES = [
    ("store.begin",              (AWAY,)),
    ("clearing.insert",          (StoreConflictError("lost"), AWAY)),
    ("clearing.payments_by_rrn", (StoreConflictError("deadlock"),)),
    ("payments.lock",            (AWAY,)),
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
    other = SettlementService(
        store=rig.store,
        dead_letters=rig.dead_letters,
        observer=rig.observer,
        clock=rig.clock,
        settings=SettlementSettings(too_early_poll_s=0.0),
    )
    await asyncio.gather(rig.settlement.take([message]), other.take([message]))
    assert rig.ledger_kinds().count("settled") == 3
    assert sum(c.matched for c in cycles(rig)) == 3
