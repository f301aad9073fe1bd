"""The circuit breaker as a table of steps."""

import pytest

from gateway.adapters.iso8583.breaker import BreakerState, CircuitBreaker
from gateway.adapters.iso8583.config import Breaker

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


def breaker() -> CircuitBreaker:
    return CircuitBreaker(Breaker(open_after_failures=3, open_s=5, open_max_s=15))


# f: failure · a: answer · P: probe answered · p: probe not answered; all of the current generation
@pytest.mark.parametrize(
    ("steps", "state"),
    [
        ("", CLOSED),
        ("ff", CLOSED),
        ("fff", OPEN),
        ("ffaff", CLOSED),
        ("ffafff", OPEN),
        ("fffa", OPEN),
        ("fffp", OPEN),
        ("fffP", HALF_OPEN),
        ("fffPa", CLOSED),
        ("fffPf", OPEN),
        ("fffPaff", CLOSED),
        ("fffPafff", OPEN),
        ("P", CLOSED),
    ],
)
def test_steps(steps: str, state: BreakerState) -> None:
    b = breaker()
    for step in steps:
        before = b.state
        if step == "f":
            changed = b.failed(b.generation, 100)
        elif step == "a":
            changed = b.answered(b.generation)
        else:
            changed = b.probed(100, answered=step == "P")
        assert changed == (b.state is not before)
    assert b.state is state


def test_the_pause_doubles_to_its_ceiling_and_an_answer_resets_it() -> None:
    b = breaker()
    for _ in range(3):
        b.failed(b.generation, 100)
    pauses = [b.probe_at - 100]
    b.probed(100, answered=False)
    pauses.append(b.probe_at - 100)
    b.probed(100, answered=True)
    b.failed(b.generation, 100)
    pauses.append(b.probe_at - 100)
    assert pauses == [5, 10, 15]
    b.probed(100, answered=True)
    b.answered(b.generation)
    for _ in range(3):
        b.failed(b.generation, 100)
    assert b.probe_at == 105


def test_what_was_submitted_before_a_change_counts_no_more() -> None:
    b = breaker()
    old = b.generation
    for _ in range(3):
        b.failed(old, 100)
    b.probed(105, answered=True)
    assert not b.failed(old, 106)
    assert not b.answered(old)
    assert b.state is HALF_OPEN
