import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.support.stack"]

# How long an example takes, or is looked for, says how busy the machine is; and the same code is tried with the same
# examples: what is found tells of a change, not of a day. `--hypothesis-profile exploring` looks further.
settings.register_profile("exploring", deadline=None, derandomize=False, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("exploring"), derandomize=True, database=None)
settings.load_profile("same")

# xdist tells its workers the size of a terminal that they do not have.
if "PYTEST_XDIST_WORKER" in os.environ:
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)

HERE = Path(__file__).parent
BESIDE = (HERE / "simulation" / "test_worlds.py", HERE / "simulation" / "test_mutants.py")
"""Files that compute for minutes, at a low priority."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files keep their order, but for two kinds.

    Those that compute come before those that wait for servers: while they do, the other process's tests wait. Those
    whose tests share a world come after all others of their folder: what it costs while nobody sends to it, nobody
    pays for longer than they run.
    """
    files = list(dict.fromkeys(item.path for item in items))
    waiting = [n for n, file in enumerate(files) if file.is_relative_to(HERE / "integration")]
    places = {file: float(n) for n, file in enumerate(files)}
    if waiting:
        places |= dict.fromkeys(BESIDE, waiting[0] - 0.5)
        shared = {item.path for item in items if "scene" in getattr(item, "fixturenames", ())}
        places |= {file: waiting[-1] + places[file] / len(files) for file in shared}
    items.sort(key=lambda item: places[item.path])
