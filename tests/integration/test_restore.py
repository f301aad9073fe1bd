"""The restore drill on real parts, short: the database is lost and restored to before the last payments."""

import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.stack import HOME

LAST_LINE = re.compile(r"restore: orders=(\d+) forgotten=(\d+) reconciled=(\d+) doubled=0 lost=0 books=balanced")


@pytest.mark.timeout(1200)
def test_what_the_database_forgot_stands_again_once_and_what_ended_stays_ended(tmp_path: Path) -> None:
    program = [sys.executable, "-c", "from gateway.cli import main; main()", "prove", "restore", "--orders", "150"]
    done = subprocess.run(
        program,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(Path.home()), "MYPAY_HOME": str(HOME), "LC_ALL": "C.UTF-8"},
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    last = LAST_LINE.fullmatch(done.stdout.splitlines()[-1])
    assert last is not None, done.stdout.splitlines()[-1]
    orders, forgotten, reconciled = map(int, last.groups())
    assert orders > forgotten == reconciled > 15
    # Payments that nobody was told of were found by their clearing; a rejection and an operator's revocation hold.
    assert re.search(r"6 of which nobody was told", done.stdout)
    assert re.search(r"restore settle: 6 were executed, 0 were not, 0 are open", done.stdout)
    assert re.search(r"[1-9]\d* rejections stand, 1 consents", done.stdout)
    assert not [p for p in psutil.process_iter() if runs_here(p)]


def runs_here(process: psutil.Process) -> bool:
    try:
        return any("mypay.run=" in a and str(HOME / "restore") in a for a in process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
