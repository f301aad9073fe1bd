"""The ``mypay`` command: one file a noun, each loaded when it is used."""

import importlib
import importlib.util
import logging
import platform
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, Final

import typer
from typer import BadParameter
from typer._click.exceptions import ClickException  # what BadParameter is, too: typer gives it no other name
from typer.core import TyperGroup

from gateway.base import build
from gateway.base.garbage_collection import collect_seldom
from gateway.cli.common import EXIT_CODES, ExitCode
from gateway.cli.explaining import ENV_DEBUG, debugging, end_with, tell
from gateway.sealing.redaction import redact
from schemas.wording import plain

PROGRAM: Final = "mypay"

_NOUNS: Final[dict[str, str]] = {
    "doctor": "Look at settings, keys, certificates, Kafka, PostgreSQL and clocks: what is wrong, and what to do.",
    "local": "Start, stop and look at a Kafka and a PostgreSQL of your own.",
    "migrate": "Bring the database's tables up to this version.",
    "topics": "Create and check the Kafka topics.",
    "keys": "The gateway's own keys; rotate and disable partners' keys. A provider's key: `mypay auth revoke-key`.",
    "partner": "Partners and their signing keys.",
    "merchant": "The merchant directory.",
    "network": "Card networks: whether they are open; pausing them.",
    "token": "Funding tokens: the cards behind consents, and who may pay with them.",
    "consent": "Customers' consents and what is used of their limits.",
    "customer": "What was used and provided of a customer.",
    "audit": "The disclosure log: every use of a consent, verified.",
    "recipient": "Recipients of customers' data and their keys.",
    "portability": "Hand customers' data to recipients that they name.",
    "affiliate": "Affiliates that settled payments are shared with, and what is approved.",
    "sharing": "Payments shared with affiliates.",
    "campaign": "Campaigns of joint marketing, and what is used of their budgets.",
    "auth": "Identity providers, and who their customers are.",
    "operators": "Who changed what by hand; proposals that a second person approves.",
    "order": "Sign and send payment orders, their cancellations and refunds.",
    "payment": "Payments whose outcome is open, by state and age.",
    "bulk": "What became of a bulk. Sending one: `mypay order bulk`.",
    "standing": "Standing orders: give them, end them, see when they pay.",
    "trace": "Tell the whole story of one payment in order, with the time between its steps.",
    "outbox": "Show how many events wait for the relay, how old the oldest is, and which were put aside.",
    "top": "Show payments a second, what is open, networks, events and breaks, until Ctrl-C. With --json: once.",
    "restore": "After PostgreSQL was restored to a point in time: find what it has forgotten (deploy/RESTORE.md).",
    "archive": "Payments that have been final for long, in files.",
    "dead_letter": "Records that no stage could read.",
    "clearing": "Networks' clearing files.",
    "schemas": "The published contract.",
    "docs": "The guides' tables, made from the code.",
    "completion": "Complete commands and options in your shell.",
    "run": "Run the gateway's processes; each stops cleanly on SIGTERM or Ctrl-C.",
    "console": "The operators' console, and whom it lets in.",
    "deploy": "The files of deploy/ that are made from the code.",
    "simulate": "Simulated counterparts: a card network's host, identity providers.",
    "demo": "Run signed orders through everything on this machine, and check the books from three sides.",
    "bench": "Measure the gateway with everything it needs on this machine, beside baselines.",
    "plan": "Tell what so many payments a second need: processes, cores, disk, terminals, money.",
    "prove": "Check the gateway's promises under faults: simulated, on real parts, and the checks themselves.",
}
"""Each with its summary, which stands in the list of commands and above the noun's own help."""

_HELP: Final = "My-Payment: signed payment orders from Kafka to a card network and back."


class _Deferred(TyperGroup):
    """Stands for a noun until it is used: a start loads one noun's modules, not all of them."""

    def __init__(self, noun: str, summary: str) -> None:
        super().__init__(name=noun.replace("_", "-"), help=summary, no_args_is_help=True)
        self._module = f"{__name__}.{noun}"

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Hand over to the noun itself."""
        return self._load().make_context(info_name, args, parent, **extra)

    def _load(self) -> Any:
        module = importlib.import_module(self._module)
        app = getattr(module, "app", None)
        if app is None:
            app = typer.Typer()
            app.command()(module.command)
        command = typer.main.get_command(app)
        # Typer gives every top-level app these; they belong to the program.
        command.params = [p for p in command.params if p.name not in ("install_completion", "show_completion")]
        # As in the list of nouns: a function's own first sentence is for whoever reads the code.
        _, *more = (command.help or "").split("\n\n")
        command.help = "\n\n".join([self.help or "", *more])
        _reflow(command)
        return command


def _reflow(command: Any) -> None:
    """Let each paragraph of its help be as wide as the terminal: Typer keeps the ends of a docstring's lines."""
    paragraphs = (command.help or "").split("\n\n")
    command.help = "\n\n".join(p if "\n " in p or "\n-" in p else p.replace("\n", " ") for p in paragraphs)
    for inner in getattr(command, "commands", {}).values():
        _reflow(inner)


class _Program(TyperGroup):
    """Tells wrong arguments in our own words, whatever read them, and no card number that was among them."""

    def make_context(self, *args: Any, **more: Any) -> Any:
        """Read the program's own options."""
        with _telling():
            return super().make_context(*args, **more)

    def invoke(self, ctx: Any) -> Any:
        """Run the noun's command."""
        with _telling():
            return super().invoke(ctx)


@contextmanager
def _telling() -> Iterator[None]:
    try:
        yield
    except ClickException as error:
        error.message = redact(_told(error.message) if isinstance(error, BadParameter) else error.message)
        raise


def _told(message: str) -> str:
    if formats := _FORMAT.findall(message):
        return f"must be like {' or '.join(_EXAMPLE.strftime(f).replace('+0900', '+09:00') for f in formats)}"
    return plain(message)


_FORMAT: Final = re.compile(r"'(%Y[^']+)'")
"""A form of times, as ``strptime`` takes it: so Click tells which ones it would have taken."""
_EXAMPLE: Final = datetime(2026, 3, 2, 9, 15, tzinfo=timezone(timedelta(hours=9)))


def program() -> TyperGroup:
    """Return the command with every noun that is there."""
    nouns = [_Deferred(n, text) for n, text in _NOUNS.items() if importlib.util.find_spec(f"{__name__}.{n}")]
    codes = "\n\n".join(f"  {code.value}  {meaning}" for code, meaning in EXIT_CODES.items())
    return _Program(
        name=PROGRAM,
        help=_HELP,
        commands=nouns,
        params=_own_options(),
        no_args_is_help=True,
        epilog=f"Exit codes:\n\n{codes}\n\n{ENV_DEBUG}=1 shows tracebacks.",
    )


def _own_options() -> list[Any]:
    """The program's own options, made as Typer makes them; this also tells its completion of our shells."""
    app = typer.Typer()

    @app.callback()
    def options(
        _version: Annotated[
            bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the program's version.")
        ] = False,
    ) -> None: ...

    return [p for p in typer.main.get_command(app).params if p.name == "_version"]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PROGRAM} {build.version()} (Python {platform.python_version()})")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and exit with one of :class:`gateway.cli.common.ExitCode`.

    With ``--json`` an error is one line of JSON on standard error:
    ``{"error": {"message": "…", "exit_code": 4, "hint": "…"}}``.
    """
    collect_seldom()
    given = list(sys.argv[1:] if arguments is None else arguments)
    json_ = "--json" in given
    if not debugging():
        # Errors are told once, as sentences; libraries' own warnings would stand between them.
        logging.getLogger().addHandler(logging.NullHandler())
    try:
        # In its own mode Typer would tell wrong arguments itself, for people alone.
        ended = program().main(args=given, prog_name=PROGRAM, standalone_mode=not json_)
        sys.exit(ended if isinstance(ended, int) else ExitCode.OK)
    except typer.Abort:
        tell("Aborted.", ExitCode.FAILED, json_=json_)
        sys.exit(ExitCode.FAILED)
    except ClickException as error:
        tell(error.format_message(), error.exit_code, json_=json_)
        sys.exit(error.exit_code)
    except Exception as error:
        if debugging():
            raise
        end_with(error, json_=json_)
