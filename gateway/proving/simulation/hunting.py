"""Hunting planted bugs: worlds are run until a promise is broken."""

from dataclasses import dataclass
from typing import Final

from gateway.proving.simulation.bugs import MUTANTS
from gateway.proving.simulation.outcome import UNEXPECTED
from gateway.proving.simulation.world import hands_over, simulate

BUDGET: Final = 3_000
"""Worlds in which a bug is hunted; most are found in the first dozen."""


@dataclass(frozen=True, slots=True)
class Hunted:
    """How the hunt for one bug ended. ``invariant`` is None if it was not found in ``seeds`` worlds."""

    name: str
    breaks: str
    seeds: int
    invariant: str | None = None
    seed: int | None = None
    text: str = ""


def hunt(name: str, first: int = 0, budget: int = BUDGET) -> Hunted:
    """Plant one bug and run worlds until a promise is broken."""
    mutant = MUTANTS[name]
    with mutant.plant():
        for number in range(budget):
            if mutant.of_data and not hands_over(first + number):
                continue
            outcome = simulate(first + number)
            if outcome.violations:
                # An unexpected error comes first: then the bug may be one of planting it.
                found = min(outcome.violations, key=lambda v: v.invariant != UNEXPECTED)
                return Hunted(name, mutant.breaks, number + 1, found.invariant, outcome.seed, found.text)
    return Hunted(name, mutant.breaks, budget)
