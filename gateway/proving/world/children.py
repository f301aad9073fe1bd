"""Child processes of a run: started with a mark, watched, stopped in order, found again after a crash.

A process is recognised by its mark, an argument of its command line that names the run's directory; a run that was
killed leaves nothing behind that the next one would not find.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil

KILL_TIMEOUT_S: Final = 10.0
LOG_TAIL_LINES: Final = 12


class ChildError(Exception):
    """A child did not start, or ended by itself. The text names it, and ends with the last lines of its log."""


def mark_of(directory: Path) -> str:
    """The argument that marks the processes of the run in ``directory``."""
    return f"mypay.run={directory.resolve()}"


class Child:
    """One process: the interpreter on some code of ours, its output in a file, its signals its own.

    Args:
        name: how people know it.
        arguments: what follows ``python``.
        mark: see :func:`mark_of`; the interpreter ignores it (``-X``).
        log: appended to.
        cwd: where it runs; no ``.env`` of the user's is read there.
        environment: the whole of it.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], *, mark: str, log: Path, cwd: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.log = log
        self._argv = [sys.executable, "-X", mark, *arguments]
        self._cwd = cwd
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id.

        Raises:
            ChildError: it was never started.
        """
        if self._process is None:
            raise ChildError(f"{self.name} was not started")
        return self._process.pid

    def running(self) -> bool:
        """True while it lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, again if it has ended."""
        if self.running():
            return
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - the arguments are our own
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._cwd,
                env=dict(self._environment),
                # Ctrl-C reaches the run alone, which then stops its children in order.
                start_new_session=True,
            )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if it has ended."""
        if self.running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def stop(self, timeout_s: float) -> int | None:
        """SIGTERM and wait; past ``timeout_s`` SIGKILL. Returns the exit code; None if it was not running."""
        process = self._process
        if process is None or process.poll() is not None:
            return None
        self.signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(process.wait, timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            await asyncio.to_thread(process.wait)
        return process.returncode

    async def ended(self) -> None:
        """Wait until it ends by itself."""
        if self._process is not None:
            await asyncio.to_thread(self._process.wait)

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        self.signal(signal.SIGKILL)

    def check(self) -> None:
        """Make sure that it lives.

        Raises:
            ChildError: it does not.
        """
        if not self.running():
            code = self._process.returncode if self._process else None
            raise ChildError(f"{self.name} ended with code {code}. The end of {self.log}:\n{tail(self.log)}")


def tail(log: Path) -> str:
    """The last lines of a log, indented."""
    with contextlib.suppress(FileNotFoundError):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n".join(f"  {line[:400]}" for line in lines)
    return "  (no log)"


def base_environment() -> dict[str, str]:
    """What every child gets: the few variables that programs need, and the caller's ``MYPAY_…`` settings."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    ours = {name: value for name, value in os.environ.items() if name.startswith("MYPAY_")}
    # A run's processes speak to this machine's servers alone, and show them no authority of the machine's: to read all
    # of them, which aiohttp does wherever it is imported, takes 6 to 9 % of a stage's start.
    return {**kept, **ours, "LC_ALL": "C.UTF-8", "PYTHONUNBUFFERED": "1", "SSL_CERT_FILE": os.devnull}


def find_marked(mark: str) -> list[int]:
    """Pids of every process with the mark, but this one. A zombie has ended."""
    return [p.pid for p in _marked(mark)]


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.pid != os.getpid() and mark in process.cmdline():
                found.append(process)
    return found


def kill_leftovers(mark: str) -> int:
    """End every process with the mark, but this one, at once; return how many there were."""
    found = _marked(mark)
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(found, timeout=KILL_TIMEOUT_S)
    return len(found)
