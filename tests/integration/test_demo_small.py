"""The demo as a person runs it, small: real Kafka, PostgreSQL, two networks and every process of the gateway."""

import json
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from gateway.proving.traffic.mix import KINDS
from gateway.proving.traffic.receivers import FAITHFUL, FINANCIAL, SCARCE, SCARCE_OFFERS, TELECOM
from tests.support.stack import HOME

ORDERS = 200
LAST_LINE = re.compile(
    r"demo: orders=(\d+) settled=(\d+) declined=(\d+) rejected=(\d+) reversed=(\d+) dead_letter=(\d+) unknown=0"
    r" books=balanced"
)
HANDED = (
    r"Exports over Kafka: Dure Ledger opened [\d,]+ records in \d+ exports with its key, and verified",
    *(rf"mypay sharing verify {a}: [\d,]+ shares, erase notices: 1, problems: 0" for a in (FINANCIAL, TELECOM)),
    r"one of them: customer [\w-]{27}, for credit-assessment, .* amount_band KRW",
    rf"Campaign {SCARCE}: {SCARCE_OFFERS} offers of at most {SCARCE_OFFERS},",
    rf"Campaign {FAITHFUL}: 1 offers of at most 5, [1-9]\d* uses counted, [1-9]\d* refused",
    r"Aggregate of 2\d{3}-W\d\d, KRW, k=10, .* [1-9]\d* suppressed",
    r": suppressed",
    r"  payment +decided \d+\.\d{3} s before, on Kafka",
    r"  portability +decided \d+\.\d{3} s before, on Kafka",
    r"  sharing +decided \d+\.\d{3} s before, on Kafka",
    r"  marketing +decided \d+\.\d{3} s before, on Kafka",
    r"\(mypay_revoke_to_last_use_seconds\): intent -\d+\.\d{3} s",
)
"""What a reader sees of data that was handed to a recipient and to affiliates."""


@pytest.mark.timeout(240)
def test_every_record_ends_once_and_the_books_agree(tmp_path: Path) -> None:
    file = tmp_path / "demo.json"
    program = [sys.executable, "-c", "from gateway.cli import main; main()", "demo"]
    done = subprocess.run(
        [*program, "--orders", str(ORDERS), "--networks", "2", "--seed", "7", "--json", str(file)],
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(Path.home()), "MYPAY_HOME": str(HOME), "LC_ALL": "C.UTF-8"},
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    last = LAST_LINE.fullmatch(done.stdout.splitlines()[-1])
    assert last is not None
    orders, *endings = map(int, last.groups())
    assert orders == sum(endings) == ORDERS
    assert all(endings)
    # Readable without a terminal: every kind is told in words, and nothing moves the cursor.
    assert all(kind.told.split(":")[0][:20] in done.stdout for kind in KINDS.values())
    assert "\x1b" not in done.stdout + done.stderr
    # What was handed to others, by line: opened, verified, counted, and ended by one revocation.
    assert all(re.search(line, done.stdout) for line in HANDED), done.stdout[-9000:]
    result = json.loads(file.read_text())
    assert result["balanced"]
    assert result["line"] == last.group()
    assert {c["name"] for c in result["books"] if not c["looked_at"]} == set()
    assert not [p for p in psutil.process_iter() if runs_here(p)]


def runs_here(process: psutil.Process) -> bool:
    try:
        return any("mypay.run=" in a and str(HOME / "demo") in a for a in process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
