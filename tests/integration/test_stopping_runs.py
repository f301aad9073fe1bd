"""Ending a demo or a bench in the middle: nothing of it is left running, however often it is told to stop."""

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

MYPAY = [sys.executable, "-c", "from gateway.cli import main; main()"]
DEMO = ("demo", "--orders", "3000")
BENCH = ("bench", "--seconds", "5", "--latency-seconds", "5", "--baseline-seconds", "1", "--lean-seconds", "2")


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


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("program", "step", "number"),
    [
        (DEMO, "Clearing away an earlier run", signal.SIGTERM),  # Kafka and PostgreSQL are being started
        (DEMO, "Starting the gateway", signal.SIGTERM),  # orders flow
        (DEMO, "Starting the gateway", signal.SIGINT),
        (BENCH, "Starting Kafka and PostgreSQL", signal.SIGTERM),
        (BENCH, "Baseline: one message at a time", signal.SIGTERM),  # the pipeline without features begins
    ],
)
def test_a_run_that_is_stopped_twice_leaves_nothing_running(
    home: Path, program: tuple[str, ...], step: str, number: int
) -> None:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(Path.home()), "MYPAY_HOME": str(home), "LC_ALL": "C.UTF-8"}
    with subprocess.Popen(
        [*MYPAY, *program], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
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
