"""What the embedded Kafka and PostgreSQL have in common: a process, a record of it, and recovery from a crash."""

import shutil
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from gateway.proving.stack import processes
from gateway.proving.stack.errors import LocalStackError
from gateway.proving.stack.processes import ProcessRecord
from gateway.proving.stack.readiness import log_tail, wait_until_ready
from gateway.proving.stack.state import ServerRecord, StackDir

# Cold disks and busy machines: thirty times what a start takes on two cores. A server that dies is told at once.
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 30.0


class Server(ABC):
    """One embedded server of a stack."""

    key: ClassVar[str]  # name of its record, data directory and log
    title: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]

    def __init__(self, stack: StackDir, progress: Callable[[str], None]) -> None:
        self.stack = stack
        self.progress = progress

    @property
    def data(self) -> Path:
        """Directory of its data."""
        return self.stack.data / self.key

    @property
    def log(self) -> Path:
        """File of its output since the last start."""
        return self.stack.logs / f"{self.key}.log"

    @property
    @abstractmethod
    def marker(self) -> str:
        """The argument of its command line that no other process has."""

    @property
    @abstractmethod
    def version(self) -> str:
        """Version of the server that would be started."""

    @abstractmethod
    def prepare(self) -> None:
        """Create its data directory if there is none yet, and clear what a crash left."""

    @abstractmethod
    def choose_ports(self, remembered: tuple[int, ...], *, same_address: bool) -> tuple[int, ...]:
        """Return the ports to listen on."""

    @abstractmethod
    def launch(self, ports: tuple[int, ...]) -> ProcessRecord:
        """Start the process."""

    @abstractmethod
    def address(self, ports: tuple[int, ...]) -> str:
        """Return what a client is configured with."""

    @abstractmethod
    def answers(self, address: str) -> bool:
        """Say whether a client's request is answered."""

    def record(self, process: ProcessRecord | None, ports: tuple[int, ...], address: str, version: str) -> ServerRecord:
        """Say what is remembered of it."""
        return ServerRecord(process, ports, address, version)

    def running(self) -> ServerRecord | None:
        """Return the record of the running server, or None."""
        record = self.stack.read(self.key)
        if record.process is not None and processes.is_running(record.process, self.marker):
            return record
        return None

    def start(self, *, same_address: bool = False) -> str:
        """Start it unless it runs; return its address once it answers.

        Raises:
            LocalStackError: it did not start; with `same_address`, also when its former port is taken.
        """
        record = self.running()
        if record is not None:
            try:
                return self._wait_for_answer(record)
            except LocalStackError:
                self.progress(f"{self.title} ran, but is dead or does not answer: it is started anew")
        self.kill()
        self._stop_unrecorded(self.stop_signal)
        self.prepare()
        ports = self.choose_ports(self.stack.read(self.key).ports, same_address=same_address)
        record = self.record(self.launch(ports), ports, self.address(ports), self.version)
        self.stack.write(self.key, record)
        try:
            return self._wait_for_answer(record)
        except BaseException:
            self.kill()
            raise

    def _wait_for_answer(self, record: ServerRecord) -> str:
        wait_until_ready(
            f"{self.title} of stack '{self.stack.name}'",
            lambda: self.answers(record.address),
            lambda: self.running() is not None,
            lambda: log_tail(self.log),
            timeout_s=START_TIMEOUT_S,
        )
        return record.address

    def stop(self) -> None:
        """Shut it down in order, or by force if that takes too long."""
        self._end(self.stop_signal)

    def discard(self) -> None:
        """Stop it and delete its data."""
        self.stop()
        self.delete()

    def kill(self) -> None:
        """End it and its children at once, as a crash would."""
        record = self.running()
        if record is not None and record.process is not None:
            processes.kill_tree(record.process, self.marker)
        self._forget_process()

    def delete(self) -> None:
        """Delete the data of a stopped server."""
        shutil.rmtree(self.data, ignore_errors=True)

    def _end(self, sign: signal.Signals) -> None:
        record = self.running()
        if record is None:
            self._stop_unrecorded(sign)
        elif record.process is not None:
            self._shut_down(record.process, sign)
        self._forget_process()

    def _stop_unrecorded(self, sign: signal.Signals) -> None:
        if self.data.exists() and (process := processes.find(self.marker)) is not None:
            self._shut_down(process, sign)

    def _shut_down(self, process: ProcessRecord, sign: signal.Signals) -> None:
        if processes.stop(process, self.marker, sign=sign, timeout_s=STOP_TIMEOUT_S):
            return
        self.progress(f"{self.title} did not stop within {STOP_TIMEOUT_S:.0f} s and is ended by force")
        processes.kill_tree(process, self.marker)
        if processes.is_running(process, self.marker):
            raise LocalStackError(
                f"{self.title} (process {process.pid}) cannot be ended.", "Is it in an uninterruptible wait?"
            )

    def _forget_process(self) -> None:
        record = self.stack.read(self.key)
        if record.process is not None:
            self.stack.write(self.key, replace(record, process=None))
