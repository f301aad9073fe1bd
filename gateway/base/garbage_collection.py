"""How often a process looks for garbage in cycles."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

THRESHOLDS: Final = (50_000, 20, 50)


def collect_seldom() -> None:
    """Look for cycles rarely from now on. For a program that begins: what it imports stays, and needs no looking at."""
    gc.set_threshold(*THRESHOLDS)


def collect_rarely() -> None:
    """Look for cycles rarely, and never again at what is alive now. For a stage's process, once it is set up.

    Batches make and drop tens of thousands of objects without cycles: looking for cycles at the default pace costs 4 to
    11 % of execution's processor time (measured).
    """
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


def collect_young() -> None:
    """Look for cycles among what was made lately: where something large was just left behind in one."""
    gc.collect(0)


@contextmanager
def collecting_rarely() -> Iterator[None]:
    """The same for a part of a process that is no stage: what a stage does is measured as a stage does it."""
    before = gc.get_threshold()
    collect_rarely()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
