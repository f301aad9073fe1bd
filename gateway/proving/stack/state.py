"""What is remembered about a stack between two commands, and the lock that keeps commands apart.

Layout below the home directory: `<name>/kafka.json` and `<name>/postgres.json` (one record a server),
`<name>/data`, `<name>/logs`, and `.<name>.lock` beside them, which survives a reset.
"""

import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from gateway.proving.stack.errors import LocalStackError
from gateway.proving.stack.processes import ProcessRecord

# A first start may download the Kafka libraries while another command waits for the lock.
LOCK_TIMEOUT_S = 300.0
LOCK_POLL_S = 0.1
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """One server as last started.

    `process` is None while it is stopped on purpose; `ports` are remembered so that a restart keeps its address;
    `container` is the id of the container that runs it instead of a process; `secure` asks clients who they are.
    """

    process: ProcessRecord | None = None
    ports: tuple[int, ...] = ()
    address: str = ""
    version: str = ""
    container: str | None = None
    secure: bool = False


@dataclass(frozen=True, slots=True)
class StackDir:
    """The directory of one stack."""

    name: str
    path: Path

    @classmethod
    def of(cls, name: str, home: Path) -> "StackDir":
        """Locate a stack below `home`.

        Raises:
            LocalStackError: the name cannot be a directory and a label at once.
        """
        if not _NAME.fullmatch(name):
            raise LocalStackError(
                f"'{name}' cannot name a local stack.",
                "Use up to 40 lower-case letters, digits, '-' and '_', the first a letter or digit.",
            )
        return cls(name, home.expanduser().resolve() / name)

    @property
    def data(self) -> Path:
        """Directory of the servers' data."""
        return self.path / "data"

    @property
    def logs(self) -> Path:
        """Directory of the servers' logs."""
        return self.path / "logs"

    def read(self, server: str) -> ServerRecord:
        """Read a server's record; an absent or torn one counts as never started."""
        try:
            table = json.loads((self.path / f"{server}.json").read_bytes())
            process = table["process"] and ProcessRecord(**table["process"])
            known = (process, tuple(table["ports"]), table["address"], table["version"], table["container"])
            return ServerRecord(*known, secure=table.get("secure", False))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return ServerRecord()

    def write(self, server: str, record: ServerRecord) -> None:
        """Replace a server's record atomically."""
        path = self.path / f"{server}.json"
        scratch = path.with_suffix(f".{os.getpid()}")
        scratch.write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")
        scratch.replace(path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other commands away from this stack; the kernel drops the lock of a killed one.

        Raises:
            LocalStackError: another command kept the lock for five minutes, or the directory cannot be made.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LocalStackError(
                f"The directory {self.path.parent} cannot be made: {error.strerror}.",
                "Choose another one in MYPAY_HOME.",
            ) from error
        with file_lock(self.path.parent / f".{self.name}.lock", f"the local stack '{self.name}'"):
            yield


@contextmanager
def file_lock(path: Path, what: str) -> Iterator[None]:
    """Hold an exclusive lock on `path`, waiting for another holder up to `LOCK_TIMEOUT_S`.

    Raises:
        LocalStackError: the lock was not to be had in time; the message names `what`.
    """
    with path.open("ab") as lock:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise LocalStackError(
                        f"Another command has been busy with {what} for {LOCK_TIMEOUT_S:.0f} s.",
                        f"See who holds it with `fuser -v {path}`.",
                    ) from error
                time.sleep(LOCK_POLL_S)
        yield
