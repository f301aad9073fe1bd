"""What Faust may commit, and what it is told of open transactions."""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.observability.recording import RecordingObserver
from streams.open_transactions import ALARM_S, OpenTransactions
from streams.transport import DirectConsumer

PLACE = ("orders", 0)


def consumer(acked: list[int], committed: int | None = 10) -> Any:
    made: Any = SimpleNamespace()
    made._acked = defaultdict(list, {PLACE: acked})
    made._acked_index = defaultdict(set, {PLACE: set(acked)})
    made._committed_offset = {PLACE: committed}
    return made


@pytest.mark.parametrize(
    ("acked", "offset"),
    [([], None), ([10], 11), ([10, 11, 12], 13), ([10, 14], 15), ([20_000_000], 20_000_001)],
    ids=["nothing", "one", "several", "what Kafka skips", "a large aborted transaction"],
)
async def test_the_last_record_that_is_acknowledged_says_where_to_go_on(acked: list[int], offset: int | None) -> None:
    made = consumer(list(acked))
    await DirectConsumer._add_gap(made, PLACE, 11, 20_000_000)
    assert DirectConsumer._new_offset(made, PLACE) == offset
    # Told once: nothing new was acknowledged.
    assert DirectConsumer._new_offset(made, PLACE) is None


def test_an_open_transaction_is_told_with_its_age_and_alarmed_once() -> None:
    observer = RecordingObserver()
    watch = OpenTransactions(observer)
    watch.look({PLACE: (5, 9), ("orders", 1): (7, 7)}, 100.0)
    assert (observer.levels["open_transaction_seconds"], observer.levels["open_transaction_records"]) == (0.0, 4)
    for after in (ALARM_S, ALARM_S + 5):
        watch.look({PLACE: (5, 12)}, 100.0 + after)
    assert observer.levels["open_transaction_seconds"] == ALARM_S + 5
    assert observer.counts["consumer", "open_transaction", ""] == 1
    # Another one at another place begins anew; none is none.
    watch.look({PLACE: (12, 13)}, 130.0)
    assert observer.levels["open_transaction_seconds"] == 0.0
    watch.look({PLACE: (14, 14)}, 131.0)
    assert observer.levels["open_transaction_records"] == 0
