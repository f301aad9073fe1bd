"""The ledger, its clearing files and the reader of its books."""

import csv
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.proving.counterparts.books import Books, BooksError
from gateway.proving.counterparts.clearing import ClearingSummary, write_file
from gateway.proving.counterparts.config import ClearingFaults, Declines, MessageClass, Policy
from gateway.proving.counterparts.ledger import Ledger, LedgerError
from gateway.proving.counterparts.records import Operation, Request
from gateway.proving.counterparts.rules import Rules

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
RULES = Rules(Declines(amount_suffixes={"051": "51"}), Policy(), seed=1)


def purchase(number: int, amount_minor: int = 1000, operation: Operation = Operation.PURCHASE) -> Request:
    key = f"TERM0001{number:06d}1123034500"
    rrn = f"RRN{number:09d}"
    return Request(MessageClass.FINANCIAL, key, key, operation, amount_minor, "KRW", rrn, "SHOP, 1", "1234", "ab" * 16)


def reversal(of: Request) -> Request:
    return of._replace(message_class=MessageClass.REVERSAL, key=f"TERM0001{900_000 + int(of.key[8:14])}1123034500")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "ledger.db", RULES)
    yield ledger
    ledger.close()


Clear = Callable[..., ClearingSummary]


@pytest.fixture
def clear(ledger: Ledger, tmp_path: Path) -> Clear:
    def close_and_write(faults: ClearingFaults | None = None, now: datetime = NOON) -> ClearingSummary:
        cycle = ledger.close_cycle(now, faults or ClearingFaults())
        return write_file(ledger.path, cycle, "simnet", tmp_path / "clearing")

    return close_and_write


def lines_of(summary: ClearingSummary) -> list[list[str]]:
    with summary.path.open(encoding="ascii", newline="") as file:
        return list(csv.reader(file))


def rrns_of(summary: ClearingSummary) -> list[str]:
    return [line[3] for line in lines_of(summary) if line[0] == "D" and len(line) == 11]


def test_a_clearing_file_holds_what_stands(ledger: Ledger, clear: Clear) -> None:
    one, two, three, four = purchase(1), purchase(2, 2051), purchase(3), purchase(4, 400, Operation.REFUND)
    ledger.process([one, two, three, four, reversal(three)], {}, 1)
    summary = clear()
    assert summary.path.name == "simnet-20261123-0001.csv"
    (approval,) = ledger._db.execute("SELECT approval_code FROM transactions WHERE seq = 1").fetchone()
    (approval_4,) = ledger._db.execute("SELECT approval_code FROM transactions WHERE seq = 4").fetchone()
    assert lines_of(summary) == [
        ["H", "simnet", "20261123-0001", "2026-11-23", "2026-11-23T12:00:00Z"],
        ["D", "1", "purchase", one.rrn, "000001", "TERM0001", "SHOP, 1", "1000", "KRW", approval, "1123034500"],
        ["D", "2", "refund", four.rrn, "000004", "TERM0001", "SHOP, 1", "400", "KRW", approval_4, "1123034500"],
        ["T", "2", "600"],
    ]
    assert (summary.record_count, summary.sum_minor) == (2, 600)
    assert not list(summary.path.parent.glob("*.tmp"))


def test_each_is_cleared_once(ledger: Ledger, clear: Clear) -> None:
    cleared = []
    for cycle in range(3):
        requests = [purchase(cycle * 10 + n) for n in range(1, 6)]
        ledger.process(requests, {}, 1)
        cleared.append((rrns_of(clear()), [request.rrn for request in requests]))
        ledger.process(requests, {}, 1)  # repeats are booked in no later cycle either
    assert all(found == expected for found, expected in cleared)
    assert rrns_of(clear()) == []


def test_cycle_ids_count_by_day_and_survive_a_restart(ledger: Ledger, clear: Clear) -> None:
    ids = [clear().cycle_id, clear().cycle_id, clear(now=datetime(2026, 11, 24, tzinfo=UTC)).cycle_id]
    again = Ledger(ledger.path, RULES)
    ids.append(again.close_cycle(datetime(2026, 11, 24, 1, tzinfo=UTC), ClearingFaults()).cycle_id)
    again.close()
    assert ids == ["20261123-0001", "20261123-0002", "20261124-0001", "20261124-0002"]


def test_a_reversal_after_clearing_is_given_back_in_the_next_file(ledger: Ledger, clear: Clear) -> None:
    bought, refunded = purchase(1), purchase(2, 300, Operation.REFUND)
    ledger.process([bought, refunded], {}, 1)
    first = clear()
    before = first.path.read_bytes()
    ledger.process([reversal(bought), reversal(refunded)], {}, 1)
    second, third = clear(), clear()
    assert (first.sum_minor, second.sum_minor, third.sum_minor) == (700, -700, 0)
    assert [line[2:4] for line in lines_of(second)[1:-1]] == [["refund", bought.rrn], ["purchase", refunded.rrn]]
    # Written again after everything that came later, the first file is still the same.
    (row,) = ledger._db.execute("SELECT * FROM cycles WHERE cycle_id = '20261123-0001'")
    cycle = next(cycle for cycle in ledger.unwritten_cycles() if cycle.cycle_id == row[0])
    first.path.unlink()
    assert write_file(ledger.path, cycle, "simnet", first.path.parent).path.read_bytes() == before


def test_what_was_cleared_is_known_after_reopening(ledger: Ledger, clear: Clear) -> None:
    ledger.process([purchase(1)], {}, 1)
    clear()
    again = Ledger(ledger.path, RULES)
    (ruling,) = again.process([reversal(purchase(1))], {}, 1)
    again.close()
    assert ruling.contra


def test_a_written_cycle_is_not_written_again(ledger: Ledger) -> None:
    one, two = (ledger.close_cycle(NOON, ClearingFaults()) for _ in range(2))
    ledger.mark_written(one.cycle_id, "file.csv")
    assert ledger.unwritten_cycles() == [two]


@pytest.mark.parametrize(
    ("faults", "rrns", "trailer"),
    [
        ({"omit": 1}, "2 3", ["T", "2", "2000"]),
        ({"duplicate": 1}, "1 1 2 3", ["T", "4", "4000"]),
        ({"clear_reversed": 1}, "1 2 3 4", ["T", "4", "4000"]),
        ({"wrong_amount": 2}, "1 2 3", ["T", "3", "3002"]),
        ({"garbage": 1}, "1 2 3", ["T", "3", "3000"]),
        ({"wrong_trailer": True}, "1 2 3", ["T", "4", "3001"]),
        ({"omit": 1, "duplicate": 1, "wrong_amount": 1}, "2 2 3", ["T", "3", "3001"]),
    ],
)
def test_a_faulty_file(faults: dict[str, int], rrns: str, trailer: list[str], ledger: Ledger, clear: Clear) -> None:
    requests = [purchase(number) for number in range(1, 5)]
    ledger.process([*requests, reversal(requests[3])], {}, 1)
    summary = clear(ClearingFaults(**faults))
    lines = lines_of(summary)
    assert rrns_of(summary) == [f"RRN{int(number):09d}" for number in rrns.split()]
    assert lines[-1] == trailer
    assert sum(len(line) != 11 for line in lines[1:-1]) == faults.get("garbage", 0)
    assert {name: len(found) for name, found in summary.faulty.items()} == {
        name: count for name, count in faults.items() if name != "wrong_trailer"
    }
    # The ledger itself stays right, and the fault ends with this file.
    with Books(ledger.path) as books:
        assert books.settled_count() == 3
    assert lines_of(clear())[-1] == ["T", "0", "0"]


def test_books_tell_every_transaction_and_the_totals(ledger: Ledger, clear: Clear) -> None:
    one, two, three = purchase(1), purchase(2, 2051), purchase(3, 500)
    refund = purchase(4, 200, Operation.REFUND)
    ledger.process([one, one, two, three, refund], {"fault_silence": 2}, 7_000_000)
    clear()
    ledger.process([reversal(three), purchase(5)._replace(rrn=one.rrn), one], {"fault_silence": 1}, 8_000_000)
    with Books(ledger.path) as books:
        by_rrn, totals = books.by_rrn(), books.totals()
    first, doubled = by_rrn[one.rrn]
    assert (first.terminal_id, first.stan, first.transmitted_at, first.acceptor_id) == (
        "TERM0001",
        1,
        "1123034500",
        "SHOP, 1",
    )
    assert (first.state, first.times_seen, first.cycle_id, first.received_at_us) == (
        "approved",
        3,
        "20261123-0001",
        7_000_000,
    )
    assert (doubled.stan, doubled.cycle_id) == (5, None)
    assert (by_rrn[two.rrn][0].state, by_rrn[two.rrn][0].cycle_id) == ("declined", None)
    undone = by_rrn[three.rrn][0]
    assert (undone.state, undone.reversed_at_us, undone.cycle_id) == ("reversed", 8_000_000, "20261123-0001")
    assert totals.by_state == {"approved": 3, "declined": 1, "reversed": 1}
    assert (totals.captured_minor, totals.reversed_minor) == ({"KRW": 1000 + 500 - 200 + 1000}, {"KRW": 500})
    assert (totals.transactions, totals.doubled_rrns, totals.duplicates_seen) == (5, 1, 2)
    assert (totals.counters["fault_silence"], totals.counters["duplicates_seen"]) == (3, 2)


def test_what_was_booked_is_there_after_reopening(ledger: Ledger) -> None:
    first = ledger.process([purchase(1), reversal(purchase(9))], {"bad_messages": 1}, 1)
    again = Ledger(ledger.path, RULES)
    second = again.process([purchase(1), purchase(9), reversal(purchase(9)), purchase(2)], {"bad_messages": 1}, 2)
    assert (second[0].response_code, second[0].approval_code) == (first[0].response_code, first[0].approval_code)
    assert [ruling.counted for ruling in second] == [
        "duplicates_seen",
        "late_originals",
        "reversal_repeats",
        "approved",
    ]
    assert again.counters["bad_messages"] == 2
    again.close()
    with Books(ledger.path) as books:
        assert [(entry.stan, entry.state) for entry in books.entries()] == [
            (1, "approved"),
            (9, "declined"),
            (2, "approved"),
        ]


def test_a_batch_that_fails_books_nothing_and_the_next_one_succeeds(ledger: Ledger) -> None:
    impossible = purchase(2)._replace(rrn=None)  # type: ignore[arg-type]
    with pytest.raises(sqlite3.IntegrityError):
        ledger.process([purchase(1), impossible], {"bad_messages": 1}, 1)
    assert ledger.counters == {}
    assert [ruling.counted for ruling in ledger.process([purchase(1), purchase(3)], {}, 1)] == ["approved", "approved"]
    assert [row[0] for row in ledger._db.execute("SELECT seq FROM transactions")] == [1, 2]


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    database = sqlite3.connect(path)
    database.executescript("CREATE TABLE something (x); PRAGMA user_version = 0")
    database.close()
    with pytest.raises(LedgerError):
        Ledger(path, RULES)
    with pytest.raises(BooksError):
        Books(path)
