"""What a soak tells: whose memory grows, and whether the books balance."""

from gateway.proving.bench.meters import Meter
from gateway.proving.bench.soak import SoakPlan, SoakResult
from gateway.proving.books import Checked

MIB = 2**20


def meter(name: str, *mib: float) -> Meter:
    memory = [int(m * MIB) for m in mib]
    return Meter(name, memory=memory, own=memory)


def test_who_grows_is_named_and_warming_up_is_no_growth() -> None:
    meters = [
        meter("execution bcard", 40, 100, 101, 102),
        meter("relay", 60, 70, 80, 90),
        # Its machine's heap.
        meter("Kafka", 100, 200, 300, 500),
    ]
    result = SoakResult(SoakPlan(60), payments=7, meters={m.name: m for m in meters})
    assert result.growing == ["relay"]
    assert result.last_line() == "soak: minutes=60 per_s=100 payments=7 growing=relay books=unbalanced"
    del result.meters["relay"]
    result.checked = [Checked("paid", "settled is paid", 7, (), 0)]
    assert result.last_line() == "soak: minutes=60 per_s=100 payments=7 growing=none books=balanced"
    result.checked.append(Checked("told", "told is paid", 7, ("payment 1",), 1))
    assert not result.balanced
