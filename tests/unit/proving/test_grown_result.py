"""What a bench in a grown world tells: how many times as dear and as fast payments are there, round by round."""

from gateway.proving.bench.grown import GrownPlan, GrownResult
from gateway.proving.bench.stretch import Stretch
from gateway.proving.books import Checked


def lap(per_s: float, **us: float) -> Stretch:
    return Stretch(us, 0.0, per_s)


def test_the_ratios_are_medians_of_the_rounds() -> None:
    result = GrownResult(GrownPlan(10_000_000))
    result.rounds = [
        (lap(1_000, execution=80, PostgreSQL=20), lap(900, execution=80, PostgreSQL=30)),
        (lap(500, execution=160, PostgreSQL=40), lap(500, execution=160, PostgreSQL=50)),
        # Something else kept the machine busy: one round does not decide.
        (lap(1_000, execution=80, PostgreSQL=20), lap(100, execution=800, PostgreSQL=200)),
    ]
    assert result.last_line() == (
        "grown: payments=10000000 rounds=3 cpu_ratio=1.100 settled_ratio=0.900 books=unbalanced"
    )
    result.checked = [Checked("paid", "settled is paid", 7, (), 0)]
    assert result.balanced
    result.checked.append(Checked("told", "told is paid", 7, ("payment 1",), 1))
    assert not result.balanced
