"""Ending a demo in the middle: nothing of it is left running, however often it is told to stop."""

import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.stack import HOME

PROGRAM = [sys.executable, "-c", "from gateway.cli import main; main()", "demo", "--orders", "3000"]


@pytest.fixture
def home() -> Iterator[Path]:
    """Not a folder of pytest's own: where this user is root, PostgreSQL's user could not enter it."""
    folder = HOME / f"stopping-{uuid.uuid4().hex}"
    folder.mkdir(parents=True)
    yield folder
    for process in running_in(folder):
        process.kill()
    shutil.rmtree(folder, ignore_errors=True)


def running_in(home: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if any(str(home) in part for part in process.cmdline()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("step", "number"),
    [
        ("Clearing away an earlier run", signal.SIGTERM),  # Kafka and PostgreSQL are being started
        ("Starting the gateway", signal.SIGTERM),  # orders flow
        ("Starting the gateway", signal.SIGINT),
    ],
)
def test_a_demo_that_is_stopped_twice_leaves_nothing_running(home: Path, step: str, number: int) -> None:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(Path.home()), "MYPAY_HOME": str(home), "LC_ALL": "C.UTF-8"}
    with subprocess.Popen(
        PROGRAM, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    ) as ran:
        assert ran.stderr is not None
        said = []
        for line in ran.stderr:
            said.append(line)
            if line.strip().startswith((step, "Stopping …")):
                # The second one comes in the middle of stopping, as from a `make` that hands it on.
                os.kill(ran.pid, number)
        assert ran.wait() == 1, "".join(said)
    assert said[-1] == "Stopped; nothing is left running.\n", "".join(said)
    assert running_in(home) == []
