"""What every command shares: exit codes, settings, addresses, output for people and programs, errors as sentences."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence, Sized
from contextlib import asynccontextmanager
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from datetime import datetime
from enum import Enum, IntEnum, unique
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar
from uuid import UUID

import typer
from msgspec import Struct, structs

from gateway.base.calendar import SEOUL
from gateway.cli.legible import legible
from gateway.database.dsn import DsnError, place_of
from gateway.database.roles import Role
from gateway.views.wording import money as money  # noqa: PLC0414 - commands take all that they share from here

if TYPE_CHECKING:
    from rich.console import Console

    from gateway.app.settings import Settings
    from gateway.messaging.producer import KafkaPublisher
    from gateway.messaging.settings import KafkaSettings

T = TypeVar("T")

SILENCE_HINT: Final = (
    "What no registered key has signed is told to nobody: `mypay dead-letter list` shows it to operators."
)


@unique
class ExitCode(IntEnum):
    """What the program's exit code says; the one table of it."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNAVAILABLE = 4


EXIT_CODES: Final[Mapping[ExitCode, str]] = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "refused or failed; nothing, or only what the output tells, was done",
    ExitCode.USAGE: "wrong arguments or settings, or a key, table or topic is still to be made",
    ExitCode.NOT_FOUND: "what was asked for does not exist",
    ExitCode.UNAVAILABLE: "Kafka or PostgreSQL cannot be reached; try again later",
}

KAFKA_DEADLINE_S: Final = 10.0
"""A person is told of an outage after this; a leader election takes less."""

OPS: Final = "mypay-ops"
"""Who a command is to the brokers unless it is somebody's in particular (:mod:`schemas.principals`)."""

STDIN: Final = Path("-")
INPUT_BYTES_MAX: Final = 256 * 1024 * 1024
"""A file given to a command is held in memory."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


class CliError(Exception):
    """Ends the program with a sentence, what to do about it, and an exit code."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED, *, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


# --- settings and addresses -------------------------------------------------------------------------------------------


def load_settings() -> "Settings":
    """Read the environment and ``.env``.

    Raises:
        UnknownSettingError, WrongSettingError: named, without its value.
    """
    from gateway.app.environment import read_settings  # noqa: PLC0415 - imported by the first command that needs it

    return read_settings()


def local_home() -> Path:
    """The directory of local stacks and of what runs on them: as MYPAY_HOME says, in the environment or ``.env``.

    Raises:
        UnknownSettingError, WrongSettingError: as :func:`load_settings`.
    """
    return load_settings().home


def postgres_dsn(settings: "Settings", role: Role = Role.OPERATOR) -> str:
    """The database as given, or else the running local stack's, for the user of this role.

    Raises:
        CliError: there is neither, or the one that is given may not be used.
    """
    from gateway.app.addresses import postgres_address  # noqa: PLC0415

    try:
        dsn = postgres_address(settings, role)
    except DsnError as error:
        raise CliError(f"{error}.", ExitCode.USAGE) from None
    if dsn is None:
        raise _not_there(settings, "MYPAY_POSTGRES_DSN")
    _ASKED["PostgreSQL"] = place_of(dsn)
    return dsn


def kafka(settings: "Settings", principal: str = OPS) -> "KafkaSettings":
    """The cluster as given, or else the running local stack's; as ``principal`` unless the settings name a user.

    Raises:
        CliError: there is neither.
        NotConfiguredError: it asks for a password or a certificate that is nowhere.
    """
    from gateway.app.addresses import kafka_address  # noqa: PLC0415
    from gateway.app.kafka import kafka_settings  # noqa: PLC0415

    if (at := kafka_address(settings)) is None:
        raise _not_there(settings, "MYPAY_KAFKA_BOOTSTRAP_SERVERS")
    _ASKED["Kafka"] = at.bootstrap_servers
    return kafka_settings(settings, at, principal, client_id="mypay-cli")


_ASKED: Final[dict[str, str]] = {}


def asked_address(server: str) -> str:
    """Where this command looked for Kafka or PostgreSQL, ready to be read behind its name; nothing if it did not."""
    return f" at {_ASKED[server]}" if server in _ASKED else ""


def partner_principal(partner_id: str) -> str:
    """Who a partner is to the brokers: what is sent in its name goes by its own credentials."""
    from schemas.principals import Principal, Role  # noqa: PLC0415

    return Principal(Role.PARTNER, partner_id).name


def _not_there(settings: "Settings", variable: str) -> CliError:
    name = "" if settings.stack == "default" else f" --name {settings.stack}"
    return CliError(
        f"{variable} is not set, and the local stack '{settings.stack}' does not run.",
        ExitCode.UNAVAILABLE,
        hint=f"Set it, or start a local stack with `mypay local up{name}`.",
    )


# --- input ------------------------------------------------------------------------------------------------------------


def there(given: Path | list[Path] | None) -> Path | list[Path] | None:
    """Refuse files and folders that are missing while the arguments are looked at: before anybody is asked.

    It is an option's or argument's ``callback``. One that is there and closed to us is refused without it. Nothing is
    opened here: what is read may come from a pipe.

    Raises:
        CliError: one is missing.
    """
    for path in given if isinstance(given, list) else [given]:
        if path is None or path == STDIN:
            continue
        try:
            path.stat()
        except OSError as error:
            raise CliError(f"{path}: {error.strerror}.", ExitCode.USAGE) from None
    return given


def read_input(path: Path) -> bytes:
    """Read a file, or standard input for ``-``.

    Raises:
        CliError: it cannot be read, or is larger than :data:`INPUT_BYTES_MAX`.
    """
    if path == STDIN:
        data = sys.stdin.buffer.read(INPUT_BYTES_MAX + 1)
    else:
        try:
            with path.open("rb") as file:
                data = file.read(INPUT_BYTES_MAX + 1)
        except OSError as error:
            raise CliError(f"{path}: {error.strerror}.", ExitCode.USAGE) from None
    if len(data) > INPUT_BYTES_MAX:
        raise CliError(f"{path} is larger than {INPUT_BYTES_MAX >> 20} MiB.", ExitCode.USAGE)
    return data


def read_documents(path: Path) -> list[tuple[int, bytes]]:
    """Read one JSON document, or JSON lines; each with the number of its (first) line.

    Raises:
        CliError: as :func:`read_input`, or there is none.
    """
    data = read_input(path)
    lines = [(n, line.strip()) for n, line in enumerate(data.split(b"\n"), 1) if line.strip()]
    if not lines:
        raise CliError(f"{'standard input' if path == STDIN else path} is empty.", ExitCode.USAGE)
    if len(lines) > 1 and all(text.startswith(b"{") and text.endswith(b"}") for _, text in lines):
        return lines
    return [(lines[0][0], data.strip())]


# --- output -----------------------------------------------------------------------------------------------------------


_FILE_WIDTH: Final = 10_000
"""Of what is no terminal: whoever reads a table there, a program or a file, wants each id in one piece."""


def out() -> "Console":
    """Where results go: as wide as the terminal (or COLUMNS), elsewhere as wide as they are."""
    from rich.console import Console  # noqa: PLC0415

    wide = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(highlight=False, width=_FILE_WIDTH if wide else None)


def err() -> "Console":
    """Where people are told what happens meanwhile, and errors."""
    from rich.console import Console  # noqa: PLC0415

    return Console(stderr=True, highlight=False)


def print_json(value: object) -> None:
    """Print one line of JSON; records, times, enums and ids in their usual text forms."""
    sys.stdout.write(legible(json.dumps(value, default=_plain, ensure_ascii=False)) + "\n")


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Sequence[str] = (),
    whole: Sequence[str] = (),
) -> None:
    """Print rows as a table for people. ``right``: the columns with numbers; ``whole``: those never broken.

    Where the terminal is too narrow for a table without broken words, each row's cells are told below each other.
    """
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from gateway.cli.fitting import fitted  # noqa: PLC0415

    console = out()
    cells = [[shown(cell) for cell in row] for row in rows]
    widths = fitted([columns, *cells], [c in whole for c in columns], console.width)
    if widths is None and cells:
        _print_records(console, title, columns, cells)
        return
    table = Table(title=title, title_justify="left", title_style="bold")
    for n, column in enumerate(columns):
        table.add_column(
            column,
            overflow="fold",
            justify="right" if column in right else "left",
            no_wrap=column in whole,
            width=None if widths is None else widths[n],
        )
    for row in cells:
        table.add_row(*map(Text, row))
    console.print(table)


def _print_records(console: "Console", title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Each row's cells below each other, without a blank one, on lines that nobody breaks but the terminal."""
    from rich.text import Text  # noqa: PLC0415

    console.print(Text(title, "bold"), soft_wrap=True)
    names = max(map(len, columns))
    for row in rows:
        told = [(c, cell.replace("\n", "\n" + " " * (names + 2))) for c, cell in zip(columns, row, strict=True) if cell]
        lines = [f"{c:<{names}}  {cell}" for c, cell in told] if names else ["  ".join(cell for _, cell in told)]
        console.print(Text("\n".join(lines) + "\n" * bool(names)), soft_wrap=True)


def say(message: str) -> None:
    """Tell people what was done; programs read the result from standard output."""
    err().print(legible(message), markup=False, soft_wrap=True)


def say_if_cut(found: Sized, limit: int) -> None:
    """Tell people, and whoever runs programs, that a list has all the rows that were asked for: more may be there."""
    if len(found) >= limit:
        say(f"{limit:,} are shown, as many as --limit lets be: there may be more.")


def shown(value: object) -> str:
    """A cell's text: nothing for None, Seoul's time to the millisecond with its offset, yes or no."""
    return legible(_shown(value))


def _shown(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.astimezone(SEOUL).isoformat(sep=" ", timespec="milliseconds")
        case frozenset() | tuple() | list():
            return ", ".join(sorted(map(str, value)))
        case Enum():
            return str(value.value)
        case _:
            return str(value)


def money_json(minor: int, currency: str) -> dict[str, str]:
    """The contract's form of money, and the only one in JSON: ``{"currency": "KRW", "value": "45000"}``."""
    from schemas.primitives import decimal_of  # noqa: PLC0415

    return {"currency": currency, "value": decimal_of(minor, currency)}


_MINOR: Final = "_minor"


def _with_money(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields in minor units, as the code holds them, in the contract's form."""
    if not fields.get("currency") or not any(name.endswith(_MINOR) for name in fields):
        return fields  # what has no currency is a sum over several
    fields = dict(fields)
    currency = fields.pop("currency")
    return {
        name.removesuffix(_MINOR): money_json(value, currency) if name.endswith(_MINOR) and value is not None else value
        for name, value in fields.items()
    }


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return _with_money({f.name: getattr(value, f.name) for f in dataclass_fields(value)})
    if isinstance(value, Struct):
        return _with_money(structs.asdict(value))
    if dump := getattr(value, "model_dump", None):
        return dump(mode="json", exclude_none=True)
    match value:
        case datetime():
            return value.isoformat()
        case UUID() | Path():
            return str(value)
        case frozenset() | set():
            return sorted(value)
        case _:
            raise TypeError(f"{type(value).__name__} has no JSON form")


# --- running ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def open_publisher(settings: "Settings", principal: str = OPS) -> "AsyncIterator[KafkaPublisher]":
    """A started producer for as long as the block lasts.

    Raises:
        PublisherUnavailableError: no broker answers within :data:`KAFKA_DEADLINE_S`.
    """
    from gateway.base.process import SilentObserver  # noqa: PLC0415
    from gateway.messaging.producer import KafkaPublisher  # noqa: PLC0415

    publisher = KafkaPublisher(kafka(settings, principal), SilentObserver(), deadline_seconds=KAFKA_DEADLINE_S)
    await publisher.start()
    try:
        yield publisher
    finally:
        await publisher.stop()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine on uvloop.

    Raises:
        KeyboardInterrupt: somebody stopped it, whatever came of what it was about: a server that is asked to give a
            statement up may answer that it was cancelled, as one that took too long.
    """
    import uvloop  # noqa: PLC0415

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_stoppable(main))


async def _stoppable(main: Coroutine[Any, Any, T]) -> T:
    try:
        return await main
    except Exception as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError from error
        raise
