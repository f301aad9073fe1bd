"""How many orders a bench signs ahead follows from how fast its warm-up went at its fastest."""

import pytest

from gateway.proving.bench.phases import Seen, fastest
from gateway.proving.bench.result import BenchError

STEADY: list[Seen] = [(second, 1_000 * second) for second in range(11)]


@pytest.mark.parametrize(
    ("seen", "rate"),
    [
        (STEADY, 1_000),
        # The end of a warm-up is slower: what is settled from before it weighs on it.
        ([*STEADY, (11, 10_500), (12, 11_000), (13, 11_500), (14, 12_000), (15, 12_500)], 1_000),
        ([(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 2_000), (6, 4_000), (7, 6_000), (8, 8_000), (9, 8_000)], 2_000),
        # As on a fast machine: all of it is shorter than the span.
        ([(0, 0), (1, 9_000), (2, 18_000), (3, 30_000)], 10_000),
        ([(0, 0), (2, 16_000)], 8_000),
    ],
)
def test_the_rate_is_that_of_the_fastest_four_seconds(seen: list[Seen], rate: float) -> None:
    assert fastest(seen, 4.0) == pytest.approx(rate)


@pytest.mark.parametrize("seen", [[], [(0, 0)], [(0, 0), (1.9, 20_000)]])
def test_a_warm_up_that_is_too_short_tells_none(seen: list[Seen]) -> None:
    with pytest.raises(BenchError, match="too short"):
        fastest(seen, 4.0)
