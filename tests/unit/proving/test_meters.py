"""What the bench makes of its samples: growth, flatness, percentiles, and which payments it may count."""

import asyncio
import os

import pytest

from gateway.proving.bench.meters import Meter, Meters
from gateway.proving.books import Ending
from gateway.proving.demo import percentile
from gateway.proving.world.confirming import HALF_RATE, SAME_RATE, confirmed_between, latencies_at_rate
from tests.support.proving_books import NOW_S, balanced, produced

MIB = 1 << 20


@pytest.mark.parametrize(
    ("own", "flat"),
    [
        ([100 * MIB] * 40, True),
        ([10 * MIB] * 10 + [100 * MIB] * 30, True),  # warming up is no growth
        ([(100 + n) * MIB for n in range(40)], False),
        ([100 * MIB] * 20 + [104 * MIB] * 20, True),  # below the threshold
        ([100 * MIB] * 20 + [107 * MIB] * 20, False),
        ([100 * MIB] * 3, True),  # too few to tell
    ],
)
def test_growth_is_told_from_warming_up(own: list[int], flat: bool) -> None:
    assert Meter("x", memory=own, own=own).flat is flat


async def test_a_meter_counts_the_processor_time_of_its_process() -> None:
    meters = Meters({"this": os.getpid()})
    meters.start()
    await asyncio.sleep(0)
    while sum(os.times()[:2]) - meters._began["this"] < 0.2:
        pass
    await meters.stop()
    assert 0.15 < meters.meters["this"].cpu_seconds < 5
    assert meters.meters["this"].peak > MIB


def test_percentiles_are_values_that_occurred() -> None:
    spans = list(range(1, 101))
    assert (percentile(spans, 0.5), percentile(spans, 0.99), percentile(spans, 1.0)) == (51, 100, 100)
    assert percentile([], 0.5) == 0


def test_only_what_both_books_confirm_is_counted() -> None:
    evidence = balanced()
    # A purchase, and the refund of a part of another.
    assert confirmed_between(evidence, NOW_S, NOW_S + 10) == 2
    assert confirmed_between(evidence, NOW_S + 6, NOW_S + 10) == 0
    evidence.network = [e._replace(amount_minor=1) for e in evidence.network]
    assert confirmed_between(evidence, NOW_S, NOW_S + 10) == 0


def test_latency_is_measured_at_a_steady_rate_after_its_first_seconds() -> None:
    evidence = balanced()
    evidence.produced = [
        produced(0, "settled", Ending.SETTLED, label=HALF_RATE, timestamp_ms=NOW_S * 1000 - 5_000),
        produced(1, "undone", Ending.SETTLED, label=HALF_RATE, timestamp_ms=NOW_S * 1000 - 70),
        produced(2, "settled", Ending.SETTLED, label="sustained", timestamp_ms=NOW_S * 1000 - 10),
    ]
    assert latencies_at_rate(evidence, HALF_RATE) == [70]
    assert latencies_at_rate(evidence, SAME_RATE) == []
