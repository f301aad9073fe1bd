"""The inbox where networks' clearing files arrive: ``<inbox>/<network_id>/<name>.csv``, a folder a network.

Whoever may write there may write clearing files and nothing else: a file is opened without following links, must be a
regular file with one name, and is copied out of reach before anything of it is judged. Where it ends (``done``,
``partial``, ``failed``, with the cause beside it) lies in a folder of the gateway's own. What is left lying because it
is no clearing file is named once, in the log and as a metric.
"""

import asyncio
import errno
import fcntl
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from gateway.base.process import Observer
from gateway.base.retrying import until_done
from gateway.settlement.files import STAGE, ClearingFile, ClearingImport, FileOutcome, ImportReport
from gateway.settlement.format import LINE_BYTES_MAX
from gateway.settlement.store import SEAL_SUFFIXES
from schemas.primitives import NetworkId

STILL_ARRIVING_S: Final = 60.0
"""A file without a trailer, or its seal, that changed within this time is taken for one that is still coming."""

FILE_BYTES_MAX: Final = 2 * 1024**3
"""About 20 million records."""

NAME_BYTES_MAX: Final = 200
"""A file system takes 255; what a file is kept under, and its cause beside it, have longer names than the file."""

_SUFFIX: Final = ".csv"
_UNFINISHED: Final = (".tmp", ".part", ".filepart")
"""How those who bring files name them until they are whole."""

_SEAL_BYTES_MAX: Final = 16 * 1024
_BLOCK_BYTES: Final = 1024 * 1024
_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a named pipe must not wait for who writes to it.
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class _NotTakenError(Exception):
    """What lies there is no clearing file. The text says why."""


class _ArrivingError(Exception):
    """It is still being written."""


_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What a disk, or the part of it that somebody may use, says that is full."""

_Identity = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Copy:
    """A file of the inbox and its copy. ``identity`` is that of the one that was copied."""

    network_id: str
    name: str
    path: Path
    identity: _Identity
    changed_at: float
    seals: dict[str, bytes]


class ClearingInbox:
    """Takes the files of all networks' inboxes."""

    def __init__(self, folder: Path, state: Path, importing: ClearingImport, observer: Observer) -> None:
        """Watch ``folder`` and keep what was taken in ``state``.

        Raises:
            ValueError: ``state`` lies inside ``folder``, where strangers write.
        """
        if state.resolve().is_relative_to(folder.resolve()):
            raise ValueError(
                f"{state} lies inside the inbox {folder}: give a folder outside (MYPAY_CLEARING_STATE_DIR)"
            )
        self._folder = folder
        self._state = state
        self._importing = importing
        self._observer = observer
        self._named: set[tuple[str, _Identity]] = set()
        self._taken: set[tuple[str, _Identity]] = set()

    async def watch(self, networks: frozenset[str], *, poll_s: float) -> None:
        """Import every file that arrives, until cancelled. Waits while Kafka is away."""
        while True:
            await self.take(networks)
            await asyncio.sleep(poll_s)

    async def take(self, networks: frozenset[str]) -> list[ImportReport]:
        """Import the files that are there, oldest name first; return what became of each."""
        reports: list[ImportReport] = []
        for where, why in await asyncio.to_thread(self._strangers, networks):
            self._name(where, why)
        for network_id in sorted(networks):
            names = await asyncio.to_thread(self._names, network_id)
            if not names:
                continue
            with self._room_for(network_id), _alone(self._state / network_id) as alone:
                for name in names if alone else ():
                    with self._room_for(f"{network_id}/{name}"):
                        reports += await self._take(network_id, name)
        return reports

    @contextmanager
    def _room_for(self, where: str) -> Iterator[None]:
        """Leave what there is no room for where it lies, and tell so: what else settlement does needs none."""
        try:
            yield
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self._name(where, f"cannot be kept in {self._state}: {os.strerror(error.errno)}")

    async def _take(self, network_id: str, name: str) -> tuple[ImportReport, ...]:
        try:
            copy = await asyncio.to_thread(self._copy, network_id, name)
        except _NotTakenError as error:
            self._name(f"{network_id}/{name}", str(error))
            return ()
        except (_ArrivingError, FileNotFoundError):
            return ()
        with copy.path.open("rb") as file:
            source = ClearingFile(file, name, copy.seals, int(copy.changed_at * 1000), network_id)
            report = await until_done(partial(self._bring, source))
        level = "info" if report.outcome is FileOutcome.DONE else "error"
        self._observer.note(
            "clearing_file",
            level=level,
            file=f"{network_id}/{name}",
            outcome=report.outcome.value,
            count=report.published,
            reason="; ".join(report.problems),
        )
        await asyncio.to_thread(self._put_away, copy, report)
        return (report,)

    async def _bring(self, source: ClearingFile) -> ImportReport:
        source.file.seek(0)
        return await self._importing.bring(source)

    # --- blocking: what lies there ------------------------------------------------------------------------------------

    def _names(self, network_id: str) -> list[str]:
        """Names of what may be clearing files; everything else there is named."""
        try:
            with _opened(self._folder / network_id) as folder:
                names = sorted(os.listdir(folder))  # noqa: PTH208  of the folder that was opened, not of its name
                aged = {n for n in names if _age(folder, n) > STILL_ARRIVING_S}
        except FileNotFoundError:
            return []
        except _NotTakenError as error:
            self._name(network_id, str(error))
            return []
        except OSError as error:
            # Whose folder it is may have closed it to us.
            self._name(network_id, f"cannot be read: {error.strerror}")
            return []
        files = [n for n in names if n.lower().endswith(_SUFFIX)]
        companions = {f + suffix for f in files for suffix in SEAL_SUFFIXES}
        for name in names:
            unfinished = name.lower().endswith((*_UNFINISHED, *SEAL_SUFFIXES)) and name not in aged
            if name not in files and name not in companions and not unfinished:
                self._name(f"{network_id}/{name}", "not a name that clearing files have (*.csv)")
        return files

    def _strangers(self, networks: frozenset[str]) -> Iterator[tuple[str, str]]:
        try:
            names = sorted(p.name for p in self._folder.iterdir())
        except OSError:
            names = []
        return iter([(n, "not the folder of a network") for n in names if n not in networks])

    def _name(self, where: str, why: str) -> None:
        """Tell once that something lies there that is not taken."""
        try:
            identity = _identity(os.lstat(self._folder / where))
        except OSError:
            return
        if (where, identity) not in self._named:
            self._named.add((where, identity))
            self._observer.count(STAGE, "not_taken")
            self._observer.note("clearing_file_not_taken", level="warning", file=where, reason=why)

    # --- blocking: the private copy -----------------------------------------------------------------------------------

    def _copy(self, network_id: str, name: str) -> _Copy:
        target = self._state / network_id / "incoming"
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = target / "file.csv"
        if len(os.fsencode(name)) > NAME_BYTES_MAX:
            raise _NotTakenError(f"its name is longer than {NAME_BYTES_MAX} bytes")
        with _opened(self._folder / network_id) as folder, _opened_file(folder, name) as (file, found):
            if (f"{network_id}/{name}", _identity(found)) in self._taken:
                raise _ArrivingError
            if found.st_size > FILE_BYTES_MAX:
                raise _NotTakenError("larger than a clearing file can be")
            young = time.time() - found.st_mtime <= STILL_ARRIVING_S
            if young and not _has_trailer(file, found.st_size):
                raise _ArrivingError
            # Before it is copied, which may be much, again and again.
            seals = _seals(folder, name)
            if young and not seals and self._importing.seals.required(NetworkId(network_id)):
                raise _ArrivingError
            path.unlink(missing_ok=True)
            if found.st_size > shutil.disk_usage(target).free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            with path.open("wb") as copy:
                os.fchmod(copy.fileno(), 0o600)
                shutil.copyfileobj(_Limited(file, FILE_BYTES_MAX), copy, _BLOCK_BYTES)
                copy.flush()
                # The original is removed later, and then this is the only one.
                os.fsync(copy.fileno())
            if _identity(os.fstat(file)) != _identity(found):
                raise _ArrivingError
        return _Copy(network_id, name, path, _identity(found), found.st_mtime, seals)

    def _put_away(self, copy: _Copy, report: ImportReport) -> None:
        folder = self._state / copy.network_id / report.outcome.value
        folder.mkdir(mode=0o700, exist_ok=True)
        target, number = folder / copy.name, 1
        while target.exists():
            number += 1
            target = folder / f"{Path(copy.name).stem}.{number}{_SUFFIX}"
        if report.problems:
            why = "\n".join((*report.problems, *report.bad))
            # The cause is a dead letter, too: that there is no room for it here keeps no file in the inbox.
            with self._room_for(f"{copy.network_id}/{copy.name}"):
                target.with_suffix(".why.txt").write_text(why + "\n", encoding="utf-8")
        copy.path.replace(target)
        self._taken.add((f"{copy.network_id}/{copy.name}", copy.identity))
        with suppress(OSError, _NotTakenError), _opened(self._folder / copy.network_id) as inbox:
            self._clear(inbox, copy)

    def _clear(self, inbox: int, copy: _Copy) -> None:
        """Remove what was taken, and its seals; whatever took its place meanwhile is left there."""
        if _identity(os.stat(copy.name, dir_fd=inbox, follow_symlinks=False)) != copy.identity:
            return
        # A seal may be the next one's already, whose file is still coming.
        for suffix in (*(s for s, seal in copy.seals.items() if _seal(inbox, copy.name + s) == seal), ""):
            try:
                os.unlink(copy.name + suffix, dir_fd=inbox)
            except FileNotFoundError:
                continue
            except OSError:
                # Also where a folder stands there by now.
                self._name(f"{copy.network_id}/{copy.name}{suffix}", "imported, but may not be removed from there")


class _Limited:
    """A descriptor as a file that ends after so many bytes."""

    def __init__(self, descriptor: int, left: int) -> None:
        self._descriptor = descriptor
        self._left = left

    def read(self, size: int = _BLOCK_BYTES, /) -> bytes:
        block = os.read(self._descriptor, min(size, self._left))
        self._left -= len(block)
        return block


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """True while no other process takes this network's files; they are one's alone until they are put away."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """Open a network's folder, which may have become anything meanwhile."""
    try:
        descriptor = os.open(folder, _FOLDER_FLAGS)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _NotTakenError(f"not a folder: {error.strerror}") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _opened_file(folder: int, name: str) -> Iterator[tuple[int, os.stat_result]]:
    """Open a regular file that has one name, and nothing else."""
    try:
        descriptor = os.open(name, _FILE_FLAGS, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _NotTakenError(f"cannot be opened as a file of its own: {error.strerror}") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _NotTakenError("not a regular file")
        if found.st_nlink != 1:
            raise _NotTakenError("has another name elsewhere (hard link)")
        yield descriptor, found
    finally:
        os.close(descriptor)


def _has_trailer(file: int, size: int) -> bool:
    return re.search(rb"(?:^|\n)T,", os.pread(file, LINE_BYTES_MAX, max(size - LINE_BYTES_MAX, 0))) is not None


def _seals(folder: int, name: str) -> dict[str, bytes]:
    """A file's seals, by suffix.

    One that is empty is none: a shell makes it before the command that writes it has read the file.
    """
    return {s: seal for s in SEAL_SUFFIXES if (seal := _seal(folder, name + s))}


def _seal(folder: int, name: str) -> bytes:
    try:
        with _opened_file(folder, name) as (file, _):
            return os.read(file, _SEAL_BYTES_MAX)
    except (FileNotFoundError, _NotTakenError):
        return b""


def _identity(found: os.stat_result) -> _Identity:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _age(folder: int, name: str) -> float:
    try:
        return time.time() - os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return 0.0
