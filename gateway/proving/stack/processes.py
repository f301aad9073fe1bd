"""Server processes that outlive the program that starts them, and how to recognise them later.

A process id alone proves nothing: after a crash the number may belong to anyone. A server is recognised by its
pid, its start time and its *marker*, an argument of its command line that contains the stack's own path.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from gateway.proving.stack.errors import LocalStackError

# psutil derives start times from the boot time, which moves when the wall clock is corrected.
START_TIME_TOLERANCE_S = 2.0
POLL_S = 0.02
COMMAND_LINE_S = 5.0  # within which the kernel shows what a process was started with: an instant

# Children of this very process must be reaped here, or a killed server stays a zombie.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """Identity of a started server: process id and start time in seconds since the epoch."""

    pid: int
    started_at: float


def spawn(argv: Sequence[str], *, log: Path, cwd: Path, user: str | None = None) -> ProcessRecord:
    """Start a daemon in a session of its own, its output in `log`; run it as `user` when given (root only).

    The previous log is kept beside it with the suffix `.previous`. The environment is not handed on, so that no
    secret of the caller stays behind in a long-lived process.
    """
    if log.exists():
        log.replace(log.with_name(log.name + ".previous"))
    with log.open("wb") as output:
        child = subprocess.Popen(  # noqa: S603  the arguments are the stack's own
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=server_environment(),
            start_new_session=True,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
    _children[child.pid] = child
    process = psutil.Process(child.pid)
    _wait_for(lambda: _shows_its_command(process), COMMAND_LINE_S)
    return ProcessRecord(child.pid, process.create_time())


def _shows_its_command(process: psutil.Process) -> bool:
    """False for an instant after the start of a program: the kernel shows nothing by which it could be recognised."""
    try:
        return bool(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return True  # it has ended, or is another user's by now


def server_environment() -> dict[str, str]:
    """Return the few variables a server needs."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return kept | {"LC_ALL": "C.UTF-8", "TZ": "UTC"}


def is_running(record: ProcessRecord, marker: str) -> bool:
    """Say whether exactly the recorded process runs."""
    child = _children.get(record.pid)
    if child is not None and child.poll() is not None:
        del _children[record.pid]
        return False
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        process = psutil.Process(record.pid)
        command = process.cmdline()  # a zombie has none, and counts as NoSuchProcess
        same_start = abs(process.create_time() - record.started_at) <= START_TIME_TOLERANCE_S
        # The kernel shows no command line for an instant after the start of a program.
        return same_start and (marker in command or not command)
    return False


def find(marker: str) -> ProcessRecord | None:
    """Find a server by its marker alone: one that a killed run started but had no time to record."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if marker in process.cmdline():
                return ProcessRecord(process.pid, process.create_time())
    return None


def stop(record: ProcessRecord, marker: str, *, sign: signal.Signals, timeout_s: float) -> bool:
    """Send `sign` and wait until the process has gone; return False if it outlived the timeout."""
    if not is_running(record, marker):
        return True
    with contextlib.suppress(ProcessLookupError):
        os.kill(record.pid, sign)
    return _wait_for(lambda: not is_running(record, marker), timeout_s)


def kill_tree(record: ProcessRecord, marker: str, *, timeout_s: float = 10.0) -> None:
    """SIGKILL the process and all its descendants, as a crash of the machine would, and wait until they have gone."""
    if not is_running(record, marker):
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(record.pid)
        doomed = [process, *process.children(recursive=True)]
        for victim in doomed:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
        wait_until_gone(doomed, timeout_s)
    is_running(record, marker)  # reaps the child, if it is ours


def wait_until_gone(found: list[psutil.Process], timeout_s: float) -> bool:
    """Wait until all have ended. A zombie has: in a container, process 1 may never collect orphans."""

    def ended(process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
        return True

    return _wait_for(lambda: all(ended(process) for process in found), timeout_s)


def run_to_end(what: str, argv: Sequence[str], *, cwd: Path, timeout_s: float, user: str | None = None) -> None:
    """Run a tool, as `user` when given.

    Raises:
        LocalStackError: it failed or took too long; `what` starts the sentence, the tool's own output ends it.
    """
    try:
        done = subprocess.run(  # noqa: S603  the arguments are the stack's own
            argv,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            cwd=cwd,
            env=server_environment(),
            text=True,
            errors="replace",
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
    except subprocess.TimeoutExpired as error:
        raise LocalStackError(f"{what} did not end within {timeout_s:.0f} s.") from error
    except OSError as error:
        raise LocalStackError(f"{what} could not be run: {error.strerror}.") from error
    if done.returncode != 0:
        raise LocalStackError(f"{what} failed: {done.stdout.strip() or f'exit code {done.returncode}'}")


def _wait_for(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True
