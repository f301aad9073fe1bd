"""Commands that operators change things with: who does it and why is written down before it is done.

``@operated("partner disable", …)`` gives a command the options ``--operator`` and ``--why``. Against a database of this
machine they may be left out; anywhere else they are required.
"""

import functools
import getpass
import inspect
import os
import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

import typer

from gateway.app.operating import OPERATOR_PATTERN, Action, Actor, NotAnActorError, actor_of
from gateway.app.settings import Settings
from gateway.cli.common import CliError, ExitCode, load_settings, postgres_dsn, run, say
from gateway.cli.unheard import unheard
from gateway.database.dsn import is_local
from gateway.directory.approval import Phase

R = TypeVar("R")

_NOBODY: Final = "somebody"
_READ: Final = "read"

OperatorOption = Annotated[
    str | None,
    typer.Option("--operator", metavar="NAME", help="Who does this. Default: MYPAY_OPERATOR; on this machine, you."),
]
WhyOption = Annotated[
    str | None,
    typer.Option("--why", metavar="TEXT", help="Why, for the record: a ticket, a sentence. Nothing personal."),
]


_ACTION: ContextVar[Action] = ContextVar("action")


def current_actor() -> Actor:
    """Who runs the present command.

    Raises:
        LookupError: it is none of those that are recorded: a bug.
    """
    return _ACTION.get().actor


def note_proposed(proposal_id: UUID) -> None:
    """Let the record say that the present command only proposed something."""
    _ACTION.get().proposed = proposal_id


def operated(
    command: str,
    subject: Callable[..., str],
    *,
    when: Callable[..., bool] = lambda **_: True,
    reads: Callable[..., object] | None = None,
) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Make a command one of operators.

    Args:
        command: its name in the record.
        subject: the command's parameters → what it concerns: an id, nothing personal.
        when: the command's parameters → whether it is an operator's action at all.
        reads: reads a file that the command is given. The command has its parameters in place of the function's
            ``read``, and the function what it returns: a fault of the file is told before anything is recorded, or a
            server asked.
    """

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        ours = _parameters(function)

        def do(given: dict[str, Any]) -> R:
            return function(**{name: value for name, value in given.items() if name in ours})

        @functools.wraps(function)
        def wrapped(*, operator: str | None = None, why: str | None = None, **given: Any) -> R:
            if not when(**given):
                if operator or why:
                    raise CliError("--operator and --why belong to operators' commands.", ExitCode.USAGE)
                return do(given)
            if reads is not None:
                given[_READ] = reads(**{name: given[name] for name in _parameters(reads)})
            settings = load_settings()
            # An operator's word to the partner is reason enough for the record.
            actor = _actor(settings, operator, why or given.get("reason"))
            return _recorded(settings, actor, command, subject(**given), lambda: do(given))

        own = ours if reads is None else _in_place_of_read(ours, _parameters(reads))
        extra = [
            inspect.Parameter("operator", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=OperatorOption),
            inspect.Parameter("why", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=WhyOption),
        ]
        wrapped.__signature__ = inspect.Signature([*own.values(), *extra])  # type: ignore[attr-defined]
        wrapped.__annotations__ = {p.name: p.annotation for p in [*own.values(), *extra]}
        return wrapped

    return decorate


def _parameters(function: Callable[..., object]) -> Mapping[str, inspect.Parameter]:
    found = inspect.signature(function).parameters
    return {name: p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for name, p in found.items()}


def _in_place_of_read(
    ours: Mapping[str, inspect.Parameter], readers: Mapping[str, inspect.Parameter]
) -> Mapping[str, inspect.Parameter]:
    """The command's parameters in the order in which its help shows them."""
    own: dict[str, inspect.Parameter] = {}
    for name, parameter in ours.items():
        own |= readers if name == _READ else {name: parameter}
    return own


def _recorded(settings: Settings, actor: Actor, command: str, subject: str, do: Callable[[], R]) -> R:
    # Not `recorded`, which is for one event loop: the command has its own between the record's two rows.
    dsn = postgres_dsn(settings)
    try:
        action = Action(actor, command, subject)
    except NotAnActorError as error:
        raise _usage(error) from None
    run(action.note(dsn, Phase.BEGUN))
    acting = _ACTION.set(action)
    try:
        # Else it would be cut where it says something that nobody reads, and nobody would know where.
        with unheard():
            result = do()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            # Before it is noted: for that the database is asked, which may not answer.
            say("Stopped in the middle: a part of it may be done, and the record says `unknown`. What is done stands.")
        run(action.note_end(dsn, error))
        raise
    finally:
        _ACTION.reset(acting)
    run(action.note_end(dsn))
    return result


def _actor(settings: Settings, operator: str | None, why: str | None) -> Actor:
    here = is_local(postgres_dsn(settings))
    name = operator or settings.operator or (_own_name() if here else "")
    if not name:
        raise CliError(
            "Who does this? Give --operator NAME or MYPAY_OPERATOR: the database is not on this machine.",
            ExitCode.USAGE,
        )
    if not why and not here:
        raise CliError("Why? Give --why TEXT: the database is not on this machine.", ExitCode.USAGE)
    try:
        return actor_of(name, why or "")
    except NotAnActorError as error:
        raise _usage(error) from None


def _usage(error: NotAnActorError) -> CliError:
    text = str(error)
    return CliError(f"{text[0].upper()}{text[1:]}.", ExitCode.USAGE)


def _own_name() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError, ImportError):
        name = str(os.getuid())
    return name if re.fullmatch(OPERATOR_PATTERN, name) else _NOBODY
