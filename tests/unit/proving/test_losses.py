"""What was lost and doubled, counted; and the checks of books that were kept while everything failed."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from gateway.proving.books import Ending, Evidence, endings_of
from gateway.proving.books.evidence import ClearingRow, ProducedCancellation
from gateway.proving.books.losses import breaks_explained, losses_of, topic_holds, turned_away_rightly
from tests.support.proving_books import NETWORK, balanced, key, payment_id


@dataclass
class Case:
    plant: Callable[[Evidence], object]
    lost: int
    doubled: int


def losses(evidence: Evidence) -> tuple[int, int]:
    found = losses_of(evidence, endings_of(evidence, redelivery=True))
    return found.lost, found.doubled


def captured_again(evidence: Evidence) -> None:
    settled = next(e for e in evidence.network if e.state == "approved")
    evidence.network.append(settled)


def stands_there_alone(evidence: Evidence) -> None:
    undone = next(n for n, e in enumerate(evidence.network) if e.state == "reversed")
    evidence.network[undone] = evidence.network[undone]._replace(state="approved")


def never_captured(evidence: Evidence) -> None:
    evidence.network = [e for e in evidence.network if e.rrn != "RRNsettled"]


CASES = {
    "nothing wrong": Case(lambda e: None, 0, 0),
    "a payment vanished": Case(lambda e: e.payments.pop(key("declined")), 1, 0),
    "a payment stays in doubt": Case(
        lambda e: e.payments.update({key("declined"): e.payments[key("declined")]._replace(state="unknown")}), 1, 0
    ),
    "settled here, not captured there": Case(never_captured, 1, 0),
    "captured twice": Case(captured_again, 0, 1),
    "reversed here, captured there": Case(stands_there_alone, 0, 1),
}


@pytest.mark.parametrize("name", CASES)
def test_losses_are_counted(name: str) -> None:
    case = CASES[name]
    evidence = balanced()
    case.plant(evidence)
    assert losses(evidence) == (case.lost, case.doubled)


def cleared(name: str, number: int, *, kind: str = "purchase", amount_minor: int = 100) -> ClearingRow:
    return ClearingRow(
        NETWORK, "20261123-0002", number, f"RRN{name}", amount_minor, "KRW", payment_id(name), "not_approved", kind
    )


def test_a_break_is_explained_by_a_reversal_that_the_next_clearing_holds_too() -> None:
    evidence = balanced()
    evidence.clearing += [cleared("undone", 1), cleared("undone", 2, kind="refund")]
    assert breaks_explained(evidence).ok


def test_a_break_of_what_stands_or_was_not_cleared_back_is_not_explained() -> None:
    alone = balanced()
    alone.clearing.append(cleared("undone", 1))
    standing = balanced()
    standing.clearing += [cleared("settled", 1, kind="refund", amount_minor=12_500)]
    unknown = balanced()
    unknown.clearing += [cleared("nobody", 1), cleared("nobody", 2, kind="refund")]
    assert [breaks_explained(e).violation_count for e in (alone, standing, unknown)] == [1, 1, 1]


def test_the_topic_holds_what_was_sent_and_nothing_else() -> None:
    produced = balanced().produced
    there = [(p.partition, p.offset, p.digest) for p in produced]
    first = produced[0]
    cancellation = ProducedCancellation(first.partition, first.offset, "partner", payment_id("settled"))
    assert topic_holds(produced, [], there).ok
    assert topic_holds(produced[1:], [cancellation], there).ok
    assert topic_holds(produced, [], there[1:]).violation_count == 1
    assert topic_holds(produced[1:], [cancellation], there[1:]).violation_count == 1
    assert topic_holds(produced[1:], [], there).violation_count == 1
    other = [(there[0][0], there[0][1], b"other"), *there[1:]]
    assert topic_holds(produced, [], other).violation_count == 1


def test_good_orders_may_be_turned_away_for_the_networks_sake_alone() -> None:
    evidence = balanced()
    endings = endings_of(evidence)
    at = next(n for n, ending in enumerate(endings.of) if ending is Ending.REJECTED)
    labels = frozenset((evidence.produced[at].label,))
    endings.reasons[at] = "AB07"
    assert turned_away_rightly(evidence, endings, labels).ok
    endings.reasons[at] = "SL14"
    assert turned_away_rightly(evidence, endings, labels).violation_count == 1
    assert turned_away_rightly(evidence, endings, frozenset()).ok
