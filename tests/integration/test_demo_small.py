"""The demo as a person runs it, small: real Kafka, PostgreSQL, two networks and every process of the gateway.

It is left running, and what it prints for whoever looks around is done as it is printed, up to its end.
"""

import asyncio
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from gateway.observability.dashboards import DASHBOARDS, PARTNER, RATE
from gateway.proving.stack import ServerState, status
from gateway.proving.traffic.cast import make_partners
from gateway.proving.traffic.mix import KINDS
from gateway.proving.traffic.receivers import FAITHFUL, FINANCIAL, SCARCE, SCARCE_OFFERS, TELECOM
from gateway.proving.world.opening import stop_kept
from tests.support.prometheus import WITH_PROMETHEUS, Prometheus, running_prometheus
from tests.support.stack import HOME

ORDERS = 200
LAST_LINE = re.compile(
    r"demo: orders=(\d+) settled=(\d+) declined=(\d+) rejected=(\d+) reversed=(\d+) dead_letter=(\d+) unknown=0"
    r" books=balanced"
)
HANDED = (
    r"Exports over Kafka: Dure Ledger opened [\d,]+ records in \d+ exports with its key, and verified",
    *(rf"mypay sharing verify {a}: [\d,]+ shares, erase notices: 1, problems: 0" for a in (FINANCIAL, TELECOM)),
    r"one of them: customer [\w-]{27}, for credit-assessment, .* amount_band [A-Z]{3} \d",
    rf"Campaign {SCARCE}: offers {SCARCE_OFFERS} of at most {SCARCE_OFFERS},",
    rf"Campaign {FAITHFUL}: offers 1 of at most 5, [1-9]\d* uses counted, [1-9]\d* refused",
    r"Aggregate of 2\d{3}-W\d\d, KRW, k=10, .* [1-9]\d* suppressed",
    r": suppressed",
    r"  payment +decided \d+\.\d{3} s before, on Kafka",
    r"  portability +decided \d+\.\d{3} s before, on Kafka",
    r"  sharing +decided \d+\.\d{3} s before, on Kafka",
    r"  marketing +decided \d+\.\d{3} s before, on Kafka",
    r"\(mypay_revoke_to_last_use_seconds\): intent -\d+\.\d{3} s",
)
"""What a reader sees of data that was handed to a recipient and to affiliates."""


ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": str(Path.home()), "LC_ALL": "C.UTF-8"}


class Demo(NamedTuple):
    """One that has ended, and whose world still runs. ``looking``: what looked on; None where it is not installed."""

    done: "subprocess.CompletedProcess[str]"
    file: Path
    looking: Prometheus | None
    began: float


@pytest.fixture(scope="module")
async def demo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Demo]:
    folder = tmp_path_factory.mktemp("demo")
    program = [sys.executable, "-c", "from gateway.cli import main; main()", "demo"]
    # As the guide says: it may look on from the beginning.
    places = HOME / "demo.run" / "prometheus-targets.json"
    async with AsyncExitStack() as resources:
        looking, began = None, time.time()
        if shutil.which("prometheus"):
            looking = await resources.enter_async_context(running_prometheus(folder, places))
        resources.callback(stop_kept, "demo", HOME)
        options = ("--orders", str(ORDERS), "--networks", "2", "--seed", "7", "--json", str(folder / "demo.json"))
        done = await asyncio.to_thread(
            subprocess.run,
            [*program, *options, "--keep"],
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
            env=ENVIRONMENT | {"MYPAY_HOME": str(HOME)},
        )
        yield Demo(done, folder / "demo.json", looking, began)


@WITH_PROMETHEUS
@pytest.mark.timeout(1200)
async def test_every_panel_of_the_dashboards_has_data_under_its_load(demo: Demo) -> None:
    assert demo.looking is not None
    panels = [(board, panel, expr) for board in DASHBOARDS for panel in board.panels for expr, _ in panel.series]
    assert len(panels) > 45
    below = [
        panel.title
        for _, panel, expr in panels
        if panel.above_zero and await demo.looking.had(f"({chosen(expr.replace(RATE, '10s'))}) < 0", since=demo.began)
    ]
    assert not below, "what is below zero is out of view"
    empty = [
        f"{board.title}, {panel.title}: {expr}"
        for board, panel, expr in panels
        if not await demo.looking.had(chosen(expr.replace(RATE, "10s")), since=demo.began)
    ]
    assert not empty


def chosen(expr: str) -> str:
    """With a partner of the demo's chosen."""
    return expr.replace(PARTNER, make_partners()[0].partner_id)


@pytest.mark.timeout(1200)
def test_every_record_ends_once_and_the_books_agree(demo: Demo) -> None:
    done, file = demo.done, demo.file
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


@pytest.mark.timeout(1200)
async def test_each_command_that_it_prints_works_as_it_is_printed(demo: Demo, tmp_path: Path) -> None:
    """From another folder, too. What doctor says is wrong is wrong of nothing that the demo made."""
    preparing, commands = printed(demo)
    assert [c.split(" ")[1] for c in commands if c.startswith("mypay ")] == [
        *("doctor", "trace", "consent", "sharing", "campaign", "audit", "dead-letter"),
    ]
    for command in commands:
        done = await in_a_shell(*preparing, command, folder=tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        assert done.stdout + done.stderr or command.startswith("psql ")


@pytest.mark.timeout(1200)
async def test_the_command_that_it_prints_last_ends_all_of_it(demo: Demo, tmp_path: Path) -> None:
    assert [p for p in psutil.process_iter() if runs_here(p)]
    preparing, _ = printed(demo)
    [stopping] = re.findall(r"^To stop it all: (.+)$", demo.done.stdout, re.MULTILINE)
    done = await in_a_shell(*preparing, stopping, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not [p for p in psutil.process_iter() if runs_here(p)]
    standing = await asyncio.to_thread(status, "demo", home=HOME)
    assert {standing.kafka.state, standing.postgres.state} == {ServerState.STOPPED}


def printed(demo: Demo) -> tuple[list[str], list[str]]:
    """What a shell is told first, and then the commands."""
    told = demo.done.stdout.partition("\nCommands to try")[2].partition("\nTo stop it all")[0]
    lines = [line.strip() for line in told.splitlines()[1:] if line.strip()]
    commands = [line for line in lines if line.startswith(("mypay ", "psql "))]
    return [line for line in lines if line not in commands], commands


async def in_a_shell(*lines: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run lines one after the other, with nothing to be typed, until one fails."""
    return await asyncio.to_thread(
        subprocess.run,
        ["/bin/bash", "-e", "-c", "\n".join(lines)],
        cwd=folder,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def runs_here(process: psutil.Process) -> bool:
    try:
        return any("mypay.run=" in a and str(HOME / "demo") in a for a in process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
