"""``mypay console``: the operators' console, and whom it lets in."""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Annotated, Any, Final

import typer

from gateway.app.operating import NotAnActorError, actor_of
from gateway.app.process import process_registry, told_over_http
from gateway.app.registries import open_registries
from gateway.app.settings import Settings
from gateway.app.watching import postgres_answers, watch_pool
from gateway.cli.common import (
    CliError,
    ExitCode,
    Json,
    load_settings,
    postgres_dsn,
    print_json,
    print_table,
    run,
    say,
)
from gateway.cli.operating import current_actor, operated
from gateway.cli.operations import Propose, carry_out, needs_two
from gateway.directory.console_roles import ConsoleRole, ConsoleUser, ListedUser
from gateway.observability.health import Health
from gateway.observability.logging import configure_logging
from gateway.observability.observer import StageObserver
from gateway.sealing.passwords import PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN, hash_password
from gateway.sealing.redaction import redact

app = typer.Typer(no_args_is_help=True)
users = typer.Typer(help="People whom the console lets in with a password.", no_args_is_help=True)
app.add_typer(users, name="user")
sessions = typer.Typer(help="Who is signed in.", no_args_is_help=True)
app.add_typer(sessions, name="sessions")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="As the record of what operators do has it.")]
RoleOption = Annotated[ConsoleRole, typer.Option("--role", help="viewer, operator or approver.")]

_PROMPT: Final = "Password"


def _subject(*, name: str, **_: object) -> str:
    return name


@app.command()
def serve() -> None:
    """Serve the console until SIGTERM or Ctrl-C."""
    run(_serve(load_settings()))


async def _serve(settings: Settings) -> None:
    # The templates and the browser's library are an extra that no other command needs.
    try:
        from gateway.console.serving import serving  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise CliError(f"The console lacks {error.name}.", hint='`pip install "mypay-gateway[console]"`') from None
    configure_logging(redact=redact, level=settings.log_level, fmt=settings.log_format)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    registry, health = process_registry(), Health()
    observer = StageObserver(registry, stage="console")
    async with told_over_http(settings, "console", registry, health, observer), serving(settings, observer) as console:
        health.readiness["postgres"] = partial(postgres_answers, console.database.looking)
        watch_pool(console.database.looking, observer)
        say(f"The console is at {console.url}")
        await stopping.wait()


@users.command()
@operated("console user add", lambda *, name, role, **_: f"{name} {role}")
def add(name: NameArgument, role: RoleOption, propose: Propose = False) -> None:
    """Let somebody in. The password is asked for, or read from standard input's first line.

    Where two people are needed the user is there at once, and may sign in when another operator has approved it.
    """
    try:
        actor_of(name, "")
    except NotAnActorError as error:
        raise CliError(f"{error}.", ExitCode.USAGE) from None
    user, settings = ConsoleUser(name, role, _new_password()), load_settings()
    waits = needs_two(settings, propose=propose)

    async def write() -> bool:
        async with open_registries(postgres_dsn(settings)) as registries:
            return await registries.console_users.add(user, enabled=not waits)

    if not run(write()):
        raise CliError(
            f"There is a user {name} already, in this spelling or another.", hint="`mypay console user list`"
        )
    say(_propose_enabling(settings, name) if waits else f"{name} may sign in as {role}.")


@users.command("list")
def list_(json_: Json = False) -> None:
    """Show everybody who has a password, and their roles."""
    settings = load_settings()

    async def read() -> list[ListedUser]:
        async with open_registries(postgres_dsn(settings)) as registries:
            return await registries.console_users.all()

    found = run(read())
    if json_:
        print_json(found)
        return
    rows = [(u.name, u.role, u.created_at, u.disabled_at) for u in found]
    print_table("Users of the console", ("name", "role", "since", "disabled"), rows, whole=("name",))


@users.command()
@operated("console user role", lambda *, name, role, **_: f"{name} {role}")
def role(name: NameArgument, role: RoleOption, propose: Propose = False) -> None:
    """Give somebody another role; they sign in again. A lower one needs no second person."""
    settings = load_settings()

    async def before() -> ConsoleRole | None:
        async with open_registries(postgres_dsn(settings)) as registries:
            found = await registries.console_users.lock(name)
            return None if found is None else found.role

    now = run(before())
    if propose or (settings.operator_two_people and now is not None and role.is_above(now)):
        payload = {"name": name, "role": role.value}
        told, _ = carry_out(settings, "console.user.role", f"{name} {role}", payload, propose=True)
        say(told)
        return
    _change(name, lambda users: users.set_role(name, role))
    say(f"{name} is {role}.")


@users.command()
@operated("console user password", _subject)
def password(name: NameArgument, propose: Propose = False) -> None:
    """Give somebody a new password; they sign in again.

    Where two people are needed, and it is not your own: they may sign in when another operator has approved it.
    """
    settings, hashed = load_settings(), _new_password()
    is_own = current_actor().operator.casefold() == name.casefold()
    waits = propose or (settings.operator_two_people and not is_own)
    _change(name, lambda users: users.set_password(name, hashed, disable=waits))
    say(f"{name} has a new password.{' ' + _propose_enabling(settings, name) if waits else ''}")


@users.command()
@operated("console user disable", _subject)
def disable(name: NameArgument) -> None:
    """Let somebody in no more, and end their sessions."""
    _change(name, lambda users: users.set_enabled(name, enabled=False))
    say(f"{name} is let in no more.")


@users.command()
@operated("console user enable", _subject)
def enable(name: NameArgument, propose: Propose = False) -> None:
    """Let somebody in again."""
    told, _ = carry_out(load_settings(), "console.user.enable", name, {"name": name}, propose=propose)
    say(told)


def _propose_enabling(settings: Settings, name: str) -> str:
    told, _ = carry_out(settings, "console.user.enable", name, {"name": name}, propose=True)
    return told


@sessions.command()
@operated("console sessions end", _subject)
def end(name: NameArgument) -> None:
    """Sign somebody out everywhere, however they signed in. They may sign in again unless their provider forbids it."""

    async def write() -> int:
        async with open_registries(postgres_dsn(load_settings())) as registries:
            return await registries.console_users.end_sessions(name)

    if not (ended := run(write())):
        raise CliError(f"Nobody is signed in as {name}.", ExitCode.NOT_FOUND, hint="`mypay console user list`")
    say(f"{ended} sessions of {name} have ended.")


def _change(name: str, change: Callable[[Any], Coroutine[Any, Any, bool]]) -> None:
    async def write() -> bool:
        async with open_registries(postgres_dsn(load_settings())) as registries:
            return await change(registries.console_users)

    if not run(write()):
        raise CliError(f"There is no user {name}.", ExitCode.NOT_FOUND, hint="`mypay console user list` shows them.")


def _new_password() -> str:
    if sys.stdin.isatty():
        given = typer.prompt(_PROMPT, hide_input=True, confirmation_prompt=True, err=True)
    else:
        given = sys.stdin.readline().rstrip("\n")
    if not PASSWORD_CHARS_MIN <= len(given) <= PASSWORD_CHARS_MAX:
        raise CliError(f"A password has {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX} characters.", ExitCode.USAGE)
    return hash_password(given)
