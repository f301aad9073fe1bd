"""The same two servers from their official images, for machines where Docker runs.

The containers are started through testcontainers, without its reaper: they are to outlive the program. They keep
their data until the stack is reset. Both listen on the loopback address alone and ask for no password.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.proving.stack.errors import LocalStackError
from gateway.proving.stack.kafka import NODE_SETTINGS
from gateway.proving.stack.ports import LOOPBACK, free_ports
from gateway.proving.stack.postgres import SERVER_SETTINGS, SUPERUSER
from gateway.proving.stack.readiness import LOG_TAIL_LINES, kafka_answers, postgres_answers, wait_until_ready
from gateway.proving.stack.server import START_TIMEOUT_S, STOP_TIMEOUT_S
from gateway.proving.stack.state import ServerRecord, StackDir
from gateway.proving.stack.versions import versions

_ENGINE_TIMEOUT_S = 10
_CONTROLLER_PORT = 9093


@dataclass(frozen=True, slots=True)
class _Image:
    title: str
    name: str
    version: str
    port: Callable[[int], int]  # host port → port inside
    environment: Callable[[int], dict[str, str]]
    command: list[str] | None
    address: Callable[[int], str]
    answers: Callable[[str], bool]


def _images() -> dict[str, _Image]:
    return {
        "kafka": _Image(
            title="Kafka",
            name="apache/kafka",
            version=versions().kafka,
            # The same port inside and outside: the broker's advertised address must work for itself too.
            port=lambda port: port,
            environment=_kafka_environment,
            command=None,
            address=lambda port: f"{LOOPBACK}:{port}",
            answers=kafka_answers,
        ),
        "postgres": _Image(
            title="PostgreSQL",
            name="postgres",
            version=versions().postgres,
            port=lambda _: 5432,
            environment=lambda _: {"POSTGRES_USER": SUPERUSER, "POSTGRES_HOST_AUTH_METHOD": "trust"},
            command=[part for name, value in SERVER_SETTINGS.items() for part in ("-c", f"{name}={value}")],
            address=lambda port: f"postgresql://{SUPERUSER}@{LOOPBACK}:{port}/postgres",
            answers=postgres_answers,
        ),
    }


def _kafka_environment(port: int) -> dict[str, str]:
    settings = NODE_SETTINGS | {
        "controller.quorum.voters": f"1@{LOOPBACK}:{_CONTROLLER_PORT}",
        "listeners": f"PLAINTEXT://0.0.0.0:{port},CONTROLLER://{LOOPBACK}:{_CONTROLLER_PORT}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
    }
    return {f"KAFKA_{name.upper().replace('.', '_')}": value for name, value in settings.items()}


def _docker() -> Any:
    """Import Docker's client, which has no type information: its objects are `Any` here."""
    try:
        import docker.errors  # type: ignore[import-untyped]  # noqa: PLC0415  slow, and of the extra 'local'
    except ModuleNotFoundError as error:
        raise LocalStackError(f"The package {error.name} is not installed.", "Run `make install`.") from error
    return docker


def _engine() -> Any:
    """Connect to Docker, or raise `LocalStackError` when no engine answers."""
    docker = _docker()
    try:
        client = docker.from_env(timeout=_ENGINE_TIMEOUT_S)
        client.ping()
    except docker.errors.DockerException as error:
        raise LocalStackError(
            "No Docker engine answers.",
            "Start Docker, or leave out --containers: Kafka and PostgreSQL then run from packages, without Docker.",
        ) from error
    return client


class ContainerServer:
    """One server of a stack, run from its official image. It has the methods of `Server`."""

    def __init__(self, key: str, stack: StackDir, progress: Callable[[str], None]) -> None:
        self.key = key
        self.stack = stack
        self.progress = progress
        self._image = _images()[key]

    @property
    def title(self) -> str:
        """Name for people."""
        return f"{self._image.title} (container)"

    @property
    def version(self) -> str:
        """Version of the image."""
        return self._image.version

    @property
    def data(self) -> None:
        """Nowhere on this machine's disk: the container holds the data."""

    @property
    def log(self) -> None:
        """Nowhere on this machine's disk: `docker logs` has it."""

    def running(self) -> ServerRecord | None:
        """Return the record of the running container, or None."""
        record = self.stack.read(self.key)
        container = self._container()
        return record if container is not None and container.status == "running" else None

    def start(self, *, same_address: bool = False) -> str:
        """Create the container unless there is one, and start it unless it runs; return its address once it answers.

        Raises:
            LocalStackError: Docker refuses, or the server does not answer.
        """
        del same_address  # Docker keeps the port of a container
        container = self._container() or self._create()
        if container.status != "running":
            container.start()
        address = self.stack.read(self.key).address
        try:
            wait_until_ready(
                self.title,
                lambda: self._image.answers(address),
                lambda: self.running() is not None,
                lambda: "Its log ends with:\n" + container.logs(tail=LOG_TAIL_LINES).decode(errors="replace"),
                timeout_s=START_TIMEOUT_S,
            )
        except BaseException:
            self.kill()
            raise
        return address

    def stop(self) -> None:
        """Shut the container down in order, or by force if that takes too long."""
        if (container := self._container()) is not None:
            container.stop(timeout=int(STOP_TIMEOUT_S))

    def discard(self) -> None:
        """Stop it, and remove it and its data."""
        self.stop()
        self.delete()

    def kill(self) -> None:
        """End the container at once."""
        if self.running() is not None and (container := self._container()) is not None:
            container.kill()

    def delete(self) -> None:
        """Remove the container and its data."""
        if (container := self._container()) is not None:
            container.remove(force=True, v=True)

    def _container(self) -> Any:
        """Return the container, or None if there is none yet or no longer."""
        identity = self.stack.read(self.key).container
        if identity is None:
            return None
        try:
            return _engine().containers.get(identity)
        except _docker().errors.NotFound:
            return None

    def _create(self) -> Any:
        _engine()  # its error is for people; testcontainers' own is not
        from testcontainers.core.config import testcontainers_config  # noqa: PLC0415  likewise slow
        from testcontainers.core.container import DockerContainer  # noqa: PLC0415

        testcontainers_config.ryuk_disabled = True
        (port,) = free_ports(1)
        image = f"{self._image.name}:{self._image.version}"
        self.progress(f"Fetching and starting the image {image}")
        wanted = DockerContainer(image, env=self._image.environment(port))
        if self._image.command:
            wanted.with_command(self._image.command)
        bindings: dict[str, Any] = {f"{self._image.port(port)}/tcp": (LOOPBACK, port)}
        wanted.ports.update(bindings)
        try:
            container = wanted.start().get_wrapped_container()
        except _docker().errors.DockerException as error:
            raise LocalStackError(f"Docker could not start {image}: {error}") from error
        record = ServerRecord(None, (port,), self._image.address(port), self.version, container.id)
        self.stack.write(self.key, record)
        container.reload()
        return container
