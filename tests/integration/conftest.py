import time
from collections.abc import AsyncIterator, Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.base.calendar import day_of, day_start
from tests.support.keeper import Keeper
from tests.support.scene import Scene

HERE = Path(__file__).parent
FAILED = pytest.StashKey[bool]()

TIMEOUT_S = 1200
"""Of a test in a whole world: the first one also starts it."""

LAST_OF_DAY_S = 120.0
"""Longer than most tests take, also on a busy machine."""

LAST_OF_DAY_OF_GUIDES_S = 420.0
"""Likewise of the one that follows the guides from end to end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.integration)
        if "scene" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """No test begins so late in the day, as its limits count it, that it could end on the next one."""
    now = datetime.now(UTC)
    left = (day_start(day_of(now) + timedelta(days=1)) - now).total_seconds()
    if left < (LAST_OF_DAY_OF_GUIDES_S if item.path.name == "test_guides.py" else LAST_OF_DAY_S):
        time.sleep(left + 0.1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


@pytest.fixture(scope="package")
async def keeper() -> AsyncIterator[Keeper]:
    """Ends with the last test of this folder: a world costs something also while nobody sends to it."""
    keeper = Keeper()
    yield keeper
    await keeper.discard(keep_data=False)


@pytest.fixture
async def scene(keeper: Keeper, request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    """A running world in which everything sent so far has ended. A test that fails takes it along."""
    scene = await keeper.scene()
    yield scene
    if request.node.stash.get(FAILED, False) or not all(
        c.running() for c in (*scene.world.stages, *scene.world.simulators)
    ):
        await keeper.discard(keep_data=True)
