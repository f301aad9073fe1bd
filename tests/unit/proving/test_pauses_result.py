"""What pauses tell: how long orders of each phase waited, with those in doubt apart."""

from uuid import UUID

import pytest

from gateway.proving.bench.pauses import PausesPlan, PausesResult, Phase, waits_of
from gateway.proving.bench.result import BenchError
from gateway.proving.books import Checked, Evidence, OrderFacts, Produced
from gateway.proving.books.evidence import EventRow

PHASES = (Phase("quiet", 1_000, 2_000), Phase("relay lost", 3_000, 4_000))


def order(number: int, sent_ms: int) -> Produced:
    facts = OrderFacts("shop", f"s-{number}", UUID(int=number), "c-1", "m-1", 100, "KRW")
    return Produced(0, number, sent_ms, b"", facts)


def told(number: int, kind: str, at_ms: int) -> EventRow:
    return EventRow("events", f"{number}:{kind}", f"payment.{kind}", str(UUID(int=number)), kind, 1, None, at_ms)


def evidence(*rows: tuple[int, int, tuple[tuple[str, int], ...]]) -> Evidence:
    produced = [order(number, sent) for number, sent, _ in rows]
    return Evidence(produced=produced, events=[told(n, kind, at) for n, _, events in rows for kind, at in events])


def test_an_order_waits_from_when_it_was_sent_to_its_answer_and_those_in_doubt_are_apart() -> None:
    waits = waits_of(
        evidence(
            (1, 900, (("approved", 5_000),)),  # before any phase
            (2, 1_000, (("sent", 1_010), ("approved", 1_040), ("settled", 9_000))),
            (3, 1_999, (("declined", 2_500),)),
            (4, 2_000, (("approved", 2_001),)),  # between the phases
            # Under way when the second began; and one that was in doubt and answered before.
            (5, 2_900, (("sent", 2_950), ("unknown", 6_000), ("approved", 7_900))),
            (6, 2_100, (("unknown", 2_200), ("reversed", 2_300))),
            (7, 3_500, (("unknown", 3_600), ("reversing", 3_700), ("reversed", 4_500))),
            (8, 3_999, (("approved", 4_009),)),
        ),
        PHASES,
    )
    assert {name: (w.sorted_ms, w.doubts_ms) for name, w in waits.items()} == {
        "quiet": ([40, 501], []),
        "relay lost": ([10], [1_000, 5_000]),
    }
    result = PausesResult(PausesPlan(), waits, [Checked("paid", "settled is paid", 7, (), 0)])
    assert result.last_line() == ("pauses: per_s=100 quiet_ms=501 relay_lost_ms=10 doubt_ms=5000 books=balanced")
    result.checked.append(Checked("told", "told is paid", 7, ("payment 1",), 1))
    assert not result.balanced


def test_an_order_without_an_answer_makes_it_worth_nothing() -> None:
    with pytest.raises(BenchError, match=r"^1 orders have no answer$"):
        waits_of(evidence((1, 1_000, (("sent", 1_010),)), (2, 1_000, (("approved", 1_010),))), PHASES)
