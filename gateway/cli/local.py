"""`mypay local …`: the Kafka and PostgreSQL of one's own machine."""

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import parse_qs, urlsplit

import typer
from rich.table import Table

from gateway.cli.common import CliError, ExitCode, err, load_settings, out
from gateway.sealing.redaction import redact

if TYPE_CHECKING:
    from gateway.proving.stack import KafkaSecurity, ServerStatus

app = typer.Typer(no_args_is_help=True)

Name = Annotated[
    str | None,
    typer.Option("--name", help="Which stack; several can run side by side. Default: MYPAY_STACK, or else `default`."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

# Results go to stdout; what people read meanwhile goes to stderr.
_out = out()
_err = err()

_CONNECT_S: Final = 2.0


@contextmanager
def _errors_for_people() -> Iterator[None]:
    """Tell the stack's errors as every command's are told, with the stack's own hints."""
    try:
        from gateway.proving.stack import LocalStackError  # noqa: PLC0415  the rest of the program runs without the extra
    except ModuleNotFoundError as error:
        raise CliError(
            f"The local stack needs the package {error.name}.", ExitCode.USAGE, hint="Run `make install`."
        ) from None
    try:
        yield
    except LocalStackError as error:
        raise CliError(str(error), hint=error.hint) from None


def _place(name: str | None) -> tuple[str, Path]:
    """Which stack is meant, and the directory of all stacks: as every other command finds them.

    Raises:
        UnknownSettingError, WrongSettingError: named, without its value.
    """
    settings = load_settings()
    return name or settings.stack, settings.home


def _progress(message: str) -> None:
    _err.print(message, style="dim", markup=False)


@app.command()
def up(
    name: Name = None,
    containers: Annotated[
        bool, typer.Option("--containers", help="Run the official images with Docker instead.")
    ] = False,
    secure: Annotated[
        bool, typer.Option("--secure", help="Kafka with TLS, passwords and access rules, as on a real cluster.")
    ] = False,
    json_: Json = False,
) -> None:
    """Start Kafka and PostgreSQL, unless they run, and print their addresses. Makes the gateway's keys where none are.

    Servers named by MYPAY_KAFKA_BOOTSTRAP_SERVERS or MYPAY_POSTGRES_DSN are used as they are.
    """
    with _errors_for_people():
        from gateway.app.disclosure import create_missing_root_key  # noqa: PLC0415 - starts of the others stay quick
        from gateway.app.keys import RINGS, create_missing_rings  # noqa: PLC0415
        from gateway.app.portability import create_missing_receipt_key  # noqa: PLC0415
        from gateway.proving import stack as local  # noqa: PLC0415

        stack, home = _place(name)
        addresses = local.up(stack, home=home, containers=containers, secure=secure, progress=_progress)
        for ring in create_missing_rings(load_settings(), within=home):
            _progress(f"A key {RINGS[ring].what} was made.")
        if create_missing_root_key(load_settings(), datetime.now(UTC), within=home):
            _progress("A key to sign roots of the disclosure log with was made.")
        if create_missing_receipt_key(load_settings(), within=home):
            _progress("A key to sign receipts of exports with was made.")
        if json_:
            typer.echo(json.dumps({name: redact(address) for name, address in asdict(addresses).items()}))
            return
        _out.print(f"Kafka       {addresses.kafka_bootstrap_servers}", highlight=False, markup=False)
        _out.print(f"PostgreSQL  {redact(addresses.postgres_dsn)}", highlight=False, markup=False, soft_wrap=True)
        _tell_security(local.status(stack, home=home).security)


@app.command()
def down(name: Name = None) -> None:
    """Stop both servers; their data stay."""
    with _errors_for_people():
        from gateway.proving import stack as local  # noqa: PLC0415

        stack, home = _place(name)
        local.down(stack, home=home)
        _progress(f"The local stack '{stack}' is down.")


@app.command()
def status(name: Name = None, json_: Json = False) -> None:
    """Show what runs, where, and whether something listens there. The exit code is 0 when both servers do, else 4."""
    with _errors_for_people():
        from gateway.proving import stack as local  # noqa: PLC0415

        named, home = _place(name)
        stack = local.status(named, home=home)
        servers = {"kafka": stack.kafka, "postgres": stack.postgres}
        listening = {server: _listens(at) for server, at in servers.items()}
        if json_:
            shown = _shown(asdict(stack))
            told = shown | {server: {**shown[server], "listening": on} for server, on in listening.items()}
            typer.echo(json.dumps(told, default=str))
        else:
            _out.print(_table(servers, listening))
            _tell_security(stack.security)
            _out.print(f"Data and logs are in {stack.directory}", highlight=False, markup=False, soft_wrap=True)
        if not all(listening.values()):
            raise typer.Exit(ExitCode.UNAVAILABLE)


def _listens(server: "ServerStatus") -> bool:
    """True if one of its addresses takes a connection: whoever was given an address was given no promise."""
    return any(_connects(place) for place in _places(server.address))


def _places(address: str) -> list[tuple[str, int] | str]:
    """Hosts with ports of a list of brokers or of a URL, or the path of a socket; none of what cannot be read."""
    if "://" not in address:
        named = [place.rpartition(":") for place in address.split(",")]
        return [(host.strip("[]"), int(port)) for host, _, port in named if port.isdigit()]
    try:
        parts = urlsplit(address)
        query = parse_qs(parts.query)
        port = parts.port or int(query.get("port", ["5432"])[0])
    except ValueError:
        return []
    hosts = [parts.hostname] if parts.hostname else query.get("host", [])
    return [f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port) for host in hosts]


def _connects(place: tuple[str, int] | str) -> bool:
    try:
        if isinstance(place, tuple):
            socket.create_connection(place, timeout=_CONNECT_S).close()
        else:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(_CONNECT_S)
                client.connect(place)
    except OSError:
        return False
    return True


@app.command()
def reset(name: Name = None, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Stop both servers and delete all their data."""
    with _errors_for_people():
        from gateway.proving import stack as local  # noqa: PLC0415

        stack, home = _place(name)
        directory = local.status(stack, home=home).directory
        if not yes:
            typer.confirm(f"Delete everything in {directory}?", abort=True)
        local.reset(stack, home=home)
        _progress(f"The local stack '{stack}' is gone.")


def _shown(value: Any) -> Any:
    """What may be printed: the address of a server that is not ours can hold a password."""
    match value:
        case dict():
            return {name: _shown(part) for name, part in value.items()}
        case str():
            return redact(value)
        case _:
            return value


def _tell_security(security: "KafkaSecurity | None") -> None:
    """How a client of one's own gets in; where the secrets are, never what they are."""
    if security is None:
        return
    lines = (
        f"            SASL_SSL with SCRAM-SHA-512, authority {security.cafile}",
        f"            passwords by user in {security.credentials}",
        f"            with a certificate instead of a password: {security.mutual} (SSL)",
        "            Users and rules for every process: `mypay migrate`, then `mypay topics acl --apply`",
    )
    for line in lines:
        _out.print(line, highlight=False, markup=False, soft_wrap=True)


def _table(servers: "dict[str, ServerStatus]", listening: Mapping[str, bool]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("server", "version", "state", "listening", "pid", "address"):
        table.add_column(column, overflow="fold")
    for server, at in servers.items():
        pid, on = str(at.pid or ""), "yes" if listening[server] else "no"
        table.add_row(server, at.version, at.state, on, pid, redact(at.address))
    return table
