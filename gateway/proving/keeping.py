"""What a run that is left running has for people: the operators' console, and where Prometheus finds each process."""

import asyncio
import secrets
import shlex
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import aiohttp

from gateway.app.registries import open_registries
from gateway.app.settings import OTHER_VARIABLES
from gateway.directory.console_roles import ConsoleRole, ConsoleUser
from gateway.observability.targets import targets
from gateway.proving.stack.ports import free_ports
from gateway.proving.world.world import World, WorldError, make_child
from gateway.sealing.files import write_secret_file
from gateway.sealing.passwords import hash_password

USER: Final = "demo"
READY_S: Final = 120.0
"""Forty times what its start takes on two cores: only a failure ever needs it."""

_CONSOLE: Final = "from gateway.cli import main; main()"
_PAGES: Final = ("jinja2", "django_htmx")
"""What the console's pages are made of: an extra of the package."""

_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Kept:
    """What is there to look at.

    Attributes:
        console: its address; None: what it is made of is not installed.
        password: file with the password of :data:`USER`, who is an approver.
        targets: for Prometheus' ``file_sd_configs``.
        settings: for a shell to read: with it every command is about this run, each as the user that it is made for.
    """

    console: str | None
    password: Path
    targets: Path
    settings: Path


def tell_targets(world: World) -> Path:
    """Write down for Prometheus where the metrics of a run's processes are: it may look on from the beginning."""
    found = world.directory / "prometheus-targets.json"
    found.write_text(targets({name: url.removeprefix("http://") for name, url in world.http.items()}), encoding="utf-8")
    return found


async def keep(world: World) -> Kept:
    """Let somebody into the console, and start it.

    Raises:
        WorldError, ChildError: the console does not become ready.
    """
    password = world.keys / "console-password"
    word = secrets.token_urlsafe(18)
    write_secret_file(password, word.encode())
    async with open_registries(world.postgres_dsn) as registries:
        await registries.console_users.add(ConsoleUser(USER, ConsoleRole.APPROVER, hash_password(word)))
    return Kept(await _start_console(world), password, tell_targets(world), tell_settings(world))


def tell_settings(world: World) -> Path:
    """Write down for people's shells how to reach everything of a run: a given database's address has a password.

    Commands find the run's servers where these were started, so the home is that of all runs and not of this one.
    """
    found = world.directory / "settings.sh"
    own = {n: v for n, v in world.environment.items() if n.startswith("MYPAY_") and n not in OTHER_VARIABLES}
    own |= {"MYPAY_HOME": str(world.plan.home.resolve()), "MYPAY_POSTGRES_DSN_OWNER": world.postgres_dsn}
    write_secret_file(found, "".join(f"export {n}={shlex.quote(v)}\n" for n, v in sorted(own.items())).encode())
    return found


async def _start_console(world: World) -> str | None:
    if any(find_spec(package) is None for package in _PAGES):
        return None
    port, metrics = free_ports(2)
    world.http["console"] = f"http://127.0.0.1:{metrics}"
    environment = {**world.environment, "MYPAY_CONSOLE_PORT": str(port), "MYPAY_HTTP_PORT": str(metrics)}
    child = make_child(world, "console", ["-c", _CONSOLE, "console", "serve"], environment)
    world.stages.append(child)
    child.start()
    url = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(READY_S), aiohttp.ClientSession() as session:
            while not await _answers(session, url):
                child.check()
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise WorldError(f"after {READY_S:.0f} s the console does not answer; log: {child.log}") from None
    return url


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/healthz") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False
