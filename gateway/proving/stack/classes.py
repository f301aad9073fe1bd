"""Kafka's classes on disk as the JVM wants them in memory: with them it starts in half the time.

The JVM makes such an archive from the names of the classes that a broker loaded. It looks for itself whether one is of
this very JVM and these libraries, and starts as it would without where it is not.
"""

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.proving.stack import processes
from gateway.proving.stack.errors import LocalStackError
from gateway.proving.stack.kafka import KafkaServer
from gateway.proving.stack.state import StackDir, file_lock

_ARCHIVE_TIMEOUT_S: Final = 180.0


def archive_classes(server: KafkaServer) -> None:
    """Make the archive that a server would start with where there is none: once for an installation, in some seconds.

    Where it cannot be made, an empty file says so: nobody tries again, and Kafka starts without.

    Raises:
        LocalStackError: Kafka's libraries could not be had.
    """
    archive = server.archive
    if archive.exists():
        return
    # Where nothing may be written, it is not missed.
    with contextlib.suppress(OSError):
        archive.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(archive.with_suffix(".lock"), "Kafka's classes"):
            if not archive.exists():
                server.progress("Archiving Kafka's classes, once")
                _archive(archive, server.progress)


def _archive(archive: Path, progress: Callable[[str], None]) -> None:
    unfinished = archive.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="mypay-classes-") as folder:
        try:
            broker = _Recorder(StackDir("classes", Path(folder)), progress)
            broker.record_classes()
            broker.write_archive(unfinished)
        except LocalStackError as error:
            progress(f"Kafka starts without an archive of its classes. {error}")
            unfinished.unlink(missing_ok=True)
            unfinished.touch()
    unfinished.replace(archive)


class _Recorder(KafkaServer):
    """A broker that writes down which classes it loads."""

    def record_classes(self) -> None:
        """Start it and stop it."""
        self.stack.data.mkdir()
        self.stack.logs.mkdir()
        try:
            self.start()
        finally:
            self.stop()

    def write_archive(self, file: Path) -> None:
        """Write what it had loaded."""
        wanted = [f"-XX:SharedClassListFile={self._names}", f"-XX:SharedArchiveFile={file}"]
        argv = [*super().java(), "-Xshare:dump", *wanted, "-cp", self.class_path]
        what = "Archiving Kafka's classes"
        processes.run_to_end(what, argv, cwd=self.stack.path, timeout_s=_ARCHIVE_TIMEOUT_S)

    @property
    def _names(self) -> Path:
        return self.stack.path / "classes"

    def java(self) -> list[str]:
        """See `KafkaServer.java`."""
        return [*super().java(), f"-XX:DumpLoadedClassList={self._names}"]
