"""The checkers are checked: every planted bug is found, and for what it does."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.prove import app
from gateway.proving.simulation.bugs import MUTANTS
from gateway.proving.simulation.bugs.planting import NotPlantedError, edited, replaced, swapped
from gateway.proving.simulation.hunting import BUDGET
from gateway.proving.simulation.outcome import UNEXPECTED
from gateway.proving.simulation.runner import hunt_all

SHOWN = {
    "refunds-uncounted": 258,
    "proof-not-asked-for": 191,
    "exemption-uncounted": 191,
    "exemption-sum-uncounted": 191,
    "refused-refund-paid": 191,
    "failed-batch-acknowledged": 186,
    "consent-locked-weakly": 175,
    "unreadable-is-silence": 153,
    "unlisted-settles": 122,
    "consent-unlocked": 112,
    "command-proof-used-twice": 91,
    "offer-of-another-used": 86,
    "proof-unverified": 81,
    "signer-unchecked": 68,
    "permission-unchecked-when-sent": 64,
    "purpose-unchecked": 62,
    "late-answer-wins": 61,
    "aggregate-tells-of-one": 60,
    "proof-of-another": 58,
    "proof-of-any-level": 58,
    "follow-ups-decide": 49,
    "erasure-of-another": 42,
    "proof-of-any-age": 41,
    "late-answer-of-any-time": 39,
    "waiting-offsets-first": 30,
    "cancellation-forgotten": 29,
    "log-names-first-version": 27,
    "export-beyond-scope": 27,
    "offsets-first": 26,
    "late-answer-flips": 24,
    "proof-used-twice": 24,
    "proof-of-nobody": 24,
    "reversal-assumed": 22,
}
"""Bugs that few worlds show, and the first that did, by `mypay prove mutants`: there a hunt begins.

After a change the world of a seed is another, and a hunt takes as long as it did without this.
"""


@pytest.mark.timeout(1800)
def test_every_planted_bug_is_found() -> None:
    first = {name: SHOWN.get(name, 0) for name in MUTANTS}
    hunted = list(hunt_all(first, budget=BUDGET, jobs=os.cpu_count() or 1))
    assert {h.name for h in hunted} == MUTANTS.keys()
    assert len(hunted) >= 12
    assert [h.name for h in hunted if h.invariant is None] == []
    # So whoever runs that many worlds finds it.
    assert [(h.name, h.seed) for h in hunted if h.seed is None or h.seed >= BUDGET] == []
    assert SHOWN.keys() <= MUTANTS.keys()
    # A bug that shows as an unexpected error was planted badly.
    assert [(h.name, h.text) for h in hunted if h.invariant == UNEXPECTED] == []


def test_the_guide_says_how_many_bugs_are_planted() -> None:
    guide = (Path(__file__).parents[2] / "gateway/proving/README.md").read_text(encoding="utf-8")
    assert f"\nmutants: planted={len(MUTANTS)} caught={len(MUTANTS)}\n" in guide


def test_a_bug_that_is_not_found_fails_the_command() -> None:
    done = CliRunner().invoke(app, ["mutants", "--only", "late-answer-flips", "--budget", "1", "--jobs", "1"])
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1] == "mutants: planted=1 caught=0"


class Sample:
    def answer(self) -> int:
        return 42


def test_what_is_planted_is_gone_afterwards() -> None:
    table = {"a": 1}
    with edited(Sample, "answer", ("42", "43")), swapped(table, {"a": 2, "b": 3}):
        assert Sample().answer() == 43
        assert table == {"a": 2, "b": 3}
    assert Sample().answer() == 42
    assert table == {"a": 1}
    with replaced(Sample, "answer", lambda _: 0):
        assert Sample().answer() == 0
    assert Sample().answer() == 42


def test_a_bug_that_no_longer_fits_the_program_says_so() -> None:
    with pytest.raises(NotPlantedError), edited(Sample, "answer", ("41", "43")):
        pass
    with pytest.raises(NotPlantedError), replaced(Sample, "nothing", 1):
        pass
