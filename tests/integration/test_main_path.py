"""Orders from Kafka to settlement on real parts, in both dialects, and what partners, finance and the networks see."""

from collections import Counter
from datetime import timedelta
from uuid import UUID

from gateway.proving.counterparts.books import Books
from gateway.proving.counterparts.books import Entry as Booked
from gateway.proving.traffic.cast import DAY_AMOUNT_KRW, DAY_COUNT, KRW_PER_PAYMENT_MAX, Role
from gateway.proving.traffic.shops import BLOCKED, CLOSED
from schemas.codec import decode
from schemas.events import PaymentEvent
from schemas.orders import PaymentOrder
from schemas.primitives import Money
from schemas.topics import SETTLEMENTS, events_topic
from tests.support.entries import BCARD, DECLINED, KCARD, REJECTED, Told
from tests.support.scene import Scene

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
DECLINES = {"051": ("51", "AM04"), "061": ("61", "AM14"), "065": ("65", "AM21")}
"""Trailing digits of an amount → DE39 that the network answers, and the reason that the partner is told."""


def books_of(scene: Scene) -> dict[str, Booked]:
    """RRN → what the networks booked under it; fails where one has two."""
    found: dict[str, Booked] = {}
    for path in scene.world.ledgers.values():
        with Books(path) as books:
            for rrn, entries in books.by_rrn().items():
                assert len(entries) == 1
                assert rrn not in found
                found[rrn] = entries[0]
    return found


def story(events: list[Told]) -> list[tuple[str, str, int]]:
    return [(e.kind, e.body["status"], e.body["version"]) for e in events]


async def test_orders_go_to_settlement_and_partners_are_told_each_step(scene: Scene) -> None:
    traced = scene.entry(scene.order(KCARD), headers=[("traceparent", TRACEPARENT.encode())])
    dollars = [scene.entry(scene.order(amount=Money.of(1_025, "USD"))) for _ in range(4)]
    paid = [*scene.payments(12, BCARD), *scene.payments(12, KCARD), *dollars, traced]
    await scene.send(paid)
    await scene.until_states(paid, "approved")
    booked = books_of(scene)
    rows = await scene.rows_of(paid)
    on: Counter[str] = Counter()
    for entry in paid:
        order, row = entry.facts, rows[entry.payment_id]
        there = booked[row["rrn"]]
        assert (there.amount_minor, there.currency, there.state) == (order.amount_minor, order.currency, "approved")
        assert (there.stan, there.terminal_id, there.approval_code) == tuple(
            row[name] for name in ("stan", "terminal_id", "approval_code")
        )
        on[row["network_id"]] += 1
    assert on == {BCARD: 16, KCARD: 13}

    await scene.settle()
    for payment_id, events in (await scene.told(paid)).items():
        row = rows[payment_id]
        assert story(events) == [
            ("payment.sent", "ACTC", 1),
            ("payment.approved", "ACSP", 2),
            ("payment.settled", "ACSC", 3),
        ]
        assert {e.topic for e in events} == {events_topic(row["partner_id"])}
        assert {e.key for e in events} == {str(payment_id).encode()}
        assert [e.headers["ce_id"].decode() for e in events] == [f"{payment_id}:{v}" for v in (1, 2, 3)]
        assert {e.body["rrn"] for e in events} == {row["rrn"]}
        assert [e.body.get("approval_code") for e in events] == [None, *[row["approval_code"]] * 2]
        told = decode(PaymentEvent, events[-1].value)
        assert (told.order_id, told.amount.minor, told.amount.currency, told.network_id) == tuple(
            row[name] for name in ("order_id", "amount_minor", "currency", "network_id")
        )
    (events,) = (await scene.told([traced])).values()
    assert {e.headers.get("traceparent") for e in events} == {TRACEPARENT.encode()}
    await scene.check_books()


async def test_what_the_network_declines_is_told_with_its_own_code(scene: Scene) -> None:
    cases = [
        (scene.entry(scene.order(network, amount=Money.of(7_000 + int(ending), "KRW")), DECLINED), why)
        for network in (BCARD, KCARD)
        for ending, why in DECLINES.items()
    ]
    declined = [entry for entry, _ in cases]
    await scene.send(declined)
    await scene.until_states(declined, "declined")
    await scene.settle()
    told = await scene.told(declined)
    for entry, (network_code, code) in cases:
        events = told[entry.payment_id]
        assert story(events) == [("payment.sent", "ACTC", 1), ("payment.declined", "RJCT", 2)]
        reason = events[-1].body["reason"]
        assert (reason["code"], reason["network_code"]) == (code, network_code)
    await scene.check_books()


async def test_what_the_consent_does_not_allow_is_told_why_and_reaches_no_network(scene: Scene) -> None:
    cast = scene.world.cast
    food, suspended, expired = (cast.of(r)[0] for r in (Role.FOOD_ONLY, Role.SUSPENDED, Role.EXPIRED))
    by_amount, by_count, single = (cast.of(r)[0] for r in (Role.DAY_AMOUNT, Role.DAY_COUNT, Role.SINGLE_USE))
    half = Money.of(DAY_AMOUNT_KRW // 2, "KRW")
    fits = [
        *(scene.entry(scene.order(customer=by_amount, amount=half)) for _ in range(2)),
        *(scene.entry(scene.order(customer=by_count)) for _ in range(DAY_COUNT)),
        scene.entry(scene.order(customer=single)),
    ]
    refused: list[tuple[str, PaymentOrder]] = [
        ("MD01", scene.order(consent_id="nobody-agreed")),
        ("TKSP", scene.order(customer=suspended)),
        ("TKXP", scene.order(customer=expired)),
        ("DT04", scene.order(issued=timedelta(minutes=5))),
        ("TM01", scene.order(issued=-timedelta(hours=2))),
        ("DT01", scene.order(valid_for=timedelta(hours=25))),
        ("AC03", scene.order(merchant_id="no-such-shop")),
        ("AC07", scene.order(merchant_id=CLOSED)),
        ("SL12", scene.order(merchant_id=BLOCKED)),
        ("SL11", scene.order(customer=food)),
        ("AM03", scene.order(amount=Money.of(500, "EUR"))),
        ("TKVE", scene.order(amount=Money.of(KRW_PER_PAYMENT_MAX + 100, "KRW"))),
        ("SL14", scene.order(customer=by_amount, amount=Money.of(100, "KRW"))),
        ("SL13", scene.order(customer=by_count)),
        ("TKSG", scene.order(customer=single)),
    ]
    entries = [scene.entry(order, REJECTED, label=code) for code, order in refused]
    await scene.send([*fits, *entries])
    await scene.until_states(entries, "rejected")
    await scene.until_states(fits, "approved")
    await scene.settle()
    told = await scene.told(entries)
    for entry in entries:
        assert story(told[entry.payment_id]) == [("payment.rejected", "RJCT", 1)]
        assert told[entry.payment_id][0].body["reason"]["code"] == entry.label
    assert {r["rrn"] for r in (await scene.rows_of(entries)).values()} == {None}
    await scene.check_books()


async def test_an_order_id_stands_for_one_order(scene: Scene) -> None:
    first = scene.entry(scene.order())
    again = first._replace(expected=REJECTED, label="repeated")
    customer = next(c for c in scene.world.cast.of(Role.PLAIN) if c.terms.consent_id == first.facts.consent_id)
    taken = scene.order(customer=customer, order_id=first.facts.order_id, amount=Money.of(200, "KRW"))
    other = scene.entry(taken, REJECTED, label="id_reused")
    # In one batch, and after the first has long been approved.
    await scene.send([first, again, other])
    await scene.until_states([first], "approved")
    await scene.send([again, other])
    await scene.until_quiet()
    await scene.settle()
    await scene.check_books()
    events = await scene.read(events_topic(first.facts.partner_id))
    refused = [e for e in events if e.kind == "order.refused" and e.body["order_id"] == taken.order_id]
    assert [(e.body["reason"]["code"], UUID(e.body["payment_id"])) for e in refused] == [("AM05", first.payment_id)] * 2
    repeated = [e for e in events if e.kind == "payment.reported" and UUID(e.body["payment_id"]) == first.payment_id]
    assert len({e.headers["ce_id"] for e in repeated}) == len(repeated) == 2


async def test_finance_is_told_what_each_network_owes_each_shop(scene: Scene) -> None:
    await scene.send([*scene.payments(5, BCARD), *scene.payments(5, KCARD)])
    await scene.settle()
    told: Counter[tuple[str, str, str]] = Counter()
    counts: Counter[tuple[str, str, str]] = Counter()
    seen: set[bytes] = set()
    for event in await scene.read(SETTLEMENTS):
        assert event.headers["ce_type"] == b"kr.mypay.settlement.cycle.v1"
        assert event.body["breaks"] == 0
        if event.headers["ce_id"] not in seen:
            seen.add(event.headers["ce_id"])
            for position in event.body["positions"]:
                place = (event.body["network_id"], position["merchant_id"], position["currency"])
                told[place] += position["net_minor"]
                counts[place] += position["count"]
    rows = await scene.fetch(
        "SELECT network_id, merchant_id, currency, count(*) AS n,"
        " sum(CASE operation WHEN 'refund' THEN -amount_minor ELSE amount_minor END)::bigint AS minor"
        " FROM payment WHERE state = 'settled' GROUP BY 1, 2, 3"
    )
    assert told == {(r["network_id"], r["merchant_id"], r["currency"]): r["minor"] for r in rows}
    assert counts == {(r["network_id"], r["merchant_id"], r["currency"]): r["n"] for r in rows}
    assert {network for network, _, _ in told} == {BCARD, KCARD}


SNAPSHOT = (
    "SELECT * FROM payment ORDER BY partner_id, payment_id",
    "SELECT * FROM refusal ORDER BY partner_id, reference",
    "SELECT * FROM ledger_transfer ORDER BY partner_id, payment_id, kind",
    "SELECT * FROM consent_usage ORDER BY partner_id, consent_id, limit_key, starts_at",
    "SELECT * FROM clearing_record ORDER BY network_id, cycle_id, record_no",
    "SELECT * FROM reversal ORDER BY partner_id, payment_id",
)


async def snapshot(scene: Scene) -> list[object]:
    """Everything that a second effect would change, here and at the networks."""
    tables: list[object] = [[tuple(r) for r in await scene.fetch(sql)] for sql in SNAPSHOT]
    for path in scene.world.ledgers.values():
        with Books(path) as books:
            tables.append(list(books.entries()))
    return tables


async def test_every_message_delivered_again_has_no_second_effect(scene: Scene) -> None:
    ends = [
        *scene.payments(10, BCARD),
        *scene.payments(10, KCARD),
        scene.entry(scene.order(amount=Money.of(7_051, "KRW")), DECLINED),
        scene.entry(scene.order(merchant_id="no-such-shop"), REJECTED),
        scene.entry(scene.order(issued=-timedelta(hours=2)), REJECTED),
    ]
    await scene.send(ends)
    await scene.settle()
    before = await snapshot(scene)
    (told_before,) = await scene.fetch("SELECT max(id) AS last FROM outbox")
    stages = [s for s in scene.world.http if s != "relay"]
    assert await scene.stop(*stages) == dict.fromkeys(stages, 0)

    await scene.rewind()
    scene.start(*stages)
    # All that any test has sent into this world is taken once more.
    await scene.until_quiet(within_s=600)

    assert await snapshot(scene) == before
    again = await scene.fetch("SELECT event_type, key FROM outbox WHERE id > $1", told_before["last"])
    assert {r["event_type"] for r in again} == {"kr.mypay.payment.reported.v1"}
    times = Counter(r["key"] for r in again)
    # Intake tells each again, and so does execution where it was handed the partner's own order: not one that was kept
    # for its day, which comes more than once by design.
    once = "state = 'rejected' OR EXISTS (SELECT FROM scheduled_order s WHERE s.payment_id = p.payment_id)"
    for is_once, payment_id in await scene.fetch(f"SELECT {once}, payment_id FROM payment p"):
        assert times[str(payment_id)] >= (1 if is_once else 2)
    told = await scene.told(ends)
    for payment_id, row in (await scene.rows_of(ends)).items():
        assert (told[payment_id][-1].kind, told[payment_id][-1].body["state"]) == ("payment.reported", row["state"])
    await scene.check_books()
