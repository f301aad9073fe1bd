"""Commands that operators change things with: who does it and why is written down before it is done.

``@operated("partner disable", …)`` gives a command the options ``--operator`` and ``--why``. Against a database of this
machine they may be left out; anywhere else they are required.
"""

import functools
import getpass
import inspect
import os
import re
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

import typer
import uuid_utils

from gateway.app.registries import open_registries
from gateway.app.settings import Settings
from gateway.cli.common import CliError, ExitCode, load_settings, postgres_dsn, run
from gateway.database.dsn import is_local
from gateway.directory.approval import Phase
from gateway.sealing.redaction import contains_secret

R = TypeVar("R")

_OPERATOR: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_WHY_CHARS_MAX: Final = 200
_NOBODY: Final = "somebody"

OperatorOption = Annotated[
    str | None,
    typer.Option("--operator", metavar="NAME", help="Who does this. Default: MYPAY_OPERATOR; on this machine, you."),
]
WhyOption = Annotated[
    str | None,
    typer.Option("--why", metavar="TEXT", help="Why, for the record: a ticket, a sentence. Nothing personal."),
]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who runs a command, and why, as they said."""

    operator: str
    why: str


_ACTOR: ContextVar[Actor] = ContextVar("operator")
_PROPOSED: ContextVar[list[UUID]] = ContextVar("proposed")


def current_actor() -> Actor:
    """Who runs the present command.

    Raises:
        LookupError: it is none of those that are recorded: a bug.
    """
    return _ACTOR.get()


def note_proposed(proposal_id: UUID) -> None:
    """Let the record say that the present command only proposed something."""
    _PROPOSED.get().append(proposal_id)


def operated(
    command: str, subject: Callable[..., str], *, when: Callable[..., bool] = lambda **_: True
) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Make a command one of operators.

    Args:
        command: its name in the record.
        subject: the command's parameters → what it concerns: an id, nothing personal.
        when: the command's parameters → whether it is an operator's action at all.
    """

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        @functools.wraps(function)
        def wrapped(*, operator: str | None = None, why: str | None = None, **given: Any) -> R:
            if not when(**given):
                if operator or why:
                    raise CliError("--operator and --why belong to operators' commands.", ExitCode.USAGE)
                return function(**given)
            settings = load_settings()
            # An operator's word to the partner is reason enough for the record.
            actor = _actor(settings, operator, why or given.get("reason"))
            return _recorded(settings, actor, command, subject(**given), lambda: function(**given))

        own = inspect.signature(function)
        extra = [
            inspect.Parameter("operator", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=OperatorOption),
            inspect.Parameter("why", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=WhyOption),
        ]
        wrapped.__signature__ = own.replace(parameters=[*own.parameters.values(), *extra])  # type: ignore[attr-defined]
        wrapped.__annotations__ = {**function.__annotations__, "operator": OperatorOption, "why": WhyOption}
        return wrapped

    return decorate


def _recorded(settings: Settings, actor: Actor, command: str, subject: str, do: Callable[[], R]) -> R:
    dsn = postgres_dsn(settings)
    action_id = UUID(bytes=uuid_utils.uuid7().bytes)

    def note(phase: Phase) -> None:
        async def write() -> None:
            async with open_registries(dsn) as registries:
                await registries.operators.note(
                    action_id, phase, operator=actor.operator, command=command, subject=subject, why=actor.why
                )

        run(write())

    note(Phase.BEGUN)
    proposed: list[UUID] = []
    acting, proposing = _ACTOR.set(actor), _PROPOSED.set(proposed)
    try:
        result = do()
    except BaseException:
        note(Phase.FAILED)
        raise
    finally:
        _ACTOR.reset(acting)
        _PROPOSED.reset(proposing)
    note(Phase.PROPOSED if proposed else Phase.DONE)
    return result


def _actor(settings: Settings, operator: str | None, why: str | None) -> Actor:
    here = is_local(postgres_dsn(settings))
    name = operator or settings.operator or (_own_name() if here else "")
    if not name:
        raise CliError(
            "Who does this? Give --operator NAME or MYPAY_OPERATOR: the database is not on this machine.",
            ExitCode.USAGE,
        )
    if not _OPERATOR.fullmatch(name):
        raise CliError("An operator's name has 1 to 64 letters, digits, '.', '_', '@' and '-'.", ExitCode.USAGE)
    if not why and not here:
        raise CliError("Why? Give --why TEXT: the database is not on this machine.", ExitCode.USAGE)
    why = why or ""
    if len(why) > _WHY_CHARS_MAX or not why.isprintable():
        raise CliError(f"--why has at most {_WHY_CHARS_MAX} printable characters.", ExitCode.USAGE)
    if contains_secret(why.encode()):
        raise CliError("--why holds what looks like a card number or a key: leave it out.", ExitCode.USAGE)
    return Actor(name, why)


def _own_name() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError, ImportError):
        name = str(os.getuid())
    return name if _OPERATOR.fullmatch(name) else _NOBODY
