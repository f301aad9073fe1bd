"""Child processes of a run: stopped in order, reported when they die, and found again by the next run."""

import asyncio
import os
import signal
from pathlib import Path

import psutil
import pytest

from gateway.proving.world.children import Child, ChildError, base_environment, kill_leftovers, mark_of

SLEEPS = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
AUTHORITIES = "import ssl; print('up', len(ssl.create_default_context().get_ca_certs()), flush=True)"
DIES = "import sys; print('no such table', file=sys.stderr); sys.exit(3)"


def child(directory: Path, program: str) -> Child:
    return Child(
        "stage",
        ["-c", program],
        mark=mark_of(directory),
        log=directory / "stage.log",
        cwd=directory,
        environment=base_environment(),
    )


async def up(directory: Path, program: str) -> Child:
    started = child(directory, program)
    started.start()
    async with asyncio.timeout(60):
        while "up" not in started.log.read_text():
            started.check()
            await asyncio.sleep(0.01)
    return started


async def test_a_child_ends_on_sigterm(tmp_path: Path) -> None:
    started = await up(tmp_path, SLEEPS)
    assert await started.stop(20) == -signal.SIGTERM
    assert not started.running()
    assert await started.stop(20) is None


async def test_a_child_that_does_not_listen_is_ended_by_force(tmp_path: Path) -> None:
    started = await up(tmp_path, STUBBORN)
    assert await started.stop(0.2) == -signal.SIGKILL


async def test_a_dead_child_is_told_with_its_last_words(tmp_path: Path) -> None:
    started = child(tmp_path, DIES)
    started.start()
    await asyncio.to_thread(os.waitid, os.P_PID, started.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ChildError, match=r"stage ended with code 3.*\n.*no such table"):
        started.check()


async def test_leftovers_are_found_by_the_mark_of_their_own_run_alone(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "demo.run", tmp_path / "demo.run-2"
    ours.mkdir()
    theirs.mkdir()
    left, other = await up(ours, SLEEPS), await up(theirs, SLEEPS)
    try:
        assert kill_leftovers(mark_of(ours)) == 1
        assert not left.running()
        assert other.running()
        assert psutil.Process(other.pid).is_running()
    finally:
        left.kill()
        other.kill()
        await asyncio.gather(left.stop(5), other.stop(5))


async def test_a_child_reads_none_of_the_machine_s_authorities(tmp_path: Path) -> None:
    started = child(tmp_path, AUTHORITIES)
    started.start()
    await started.ended()
    assert started.log.read_text() == "up 0\n"
