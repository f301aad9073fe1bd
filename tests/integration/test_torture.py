"""Torture on real parts, short: every kind of fault once, every stage killed once, and then the books."""

import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from gateway.proving.torture.strikes import ROWS, Kind
from tests.support.stack import HOME

LAST_LINE = re.compile(r"torture: minutes=0\.25 kills=(\d+) orders=(\d+) lost=0 doubled=0 violations=0")
KILLS_MIN = 16
"""Fifteen stages, a host, Kafka and PostgreSQL, but for a few that another strike had in hand."""


@pytest.mark.timeout(1200)
def test_nothing_is_lost_or_doubled_while_everything_fails(tmp_path: Path) -> None:
    program = [sys.executable, "-c", "from gateway.cli import main; main()", "prove", "torture", "--short"]
    try:
        done = subprocess.run(
            program,
            capture_output=True,
            text=True,
            timeout=1000,
            check=False,
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "HOME": str(Path.home()), "MYPAY_HOME": str(HOME), "LC_ALL": "C.UTF-8"},
        )
    except subprocess.TimeoutExpired as late:
        said = b"".join(part or b"" for part in (late.stdout, late.stderr)).decode()
        pytest.fail(f"it did not end; at last it said: {said[-8000:]}")
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    last = LAST_LINE.fullmatch(done.stdout.splitlines()[-1])
    assert last is not None, done.stdout.splitlines()[-1]
    kills, orders = map(int, last.groups())
    assert kills >= KILLS_MIN
    assert orders > 800
    # The faults met orders: some were in doubt and undone, and most were paid all the same.
    assert re.search(r"│ payment .*settled \d+.*reversed \d+", done.stdout)
    assert all(row.told in done.stdout for kind, row in ROWS.items() if kind is not Kind.FREEZE_LONG)
    # Readable without a terminal.
    assert "\x1b" not in done.stdout + done.stderr
    assert not [p for p in psutil.process_iter() if runs_here(p)]


def runs_here(process: psutil.Process) -> bool:
    try:
        return any("mypay.run=" in a and str(HOME / "torture") in a for a in process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
