"""``mypay simulate …``: the other side of the gateway, as processes of their own."""

import asyncio
import errno
import json
import re
import sqlite3
import sys
import tomllib
from collections.abc import Callable
from enum import StrEnum, unique
from pathlib import Path
from typing import Annotated, Any, Final

import structlog
import typer
import uvloop
from pydantic import ValidationError

from gateway.base.causes import cause_of
from gateway.cli.common import CliError, ExitCode, load_settings, read_input
from gateway.cli.simulate_idp import idp
from gateway.network.iso8583.framing import FrameHeader
from gateway.proving.counterparts.config import SimulatorConfig, Synchronous, load
from gateway.proving.counterparts.ledger import LedgerError
from gateway.proving.counterparts.run import run
from gateway.proving.stack.certificates import Authority
from schemas.wording import faults_of

app = typer.Typer(no_args_is_help=True)
app.command(name="idp")(idp)

_ANOTHER_PORT: Final = (
    "Another checkout's may have it. `--port 0 --networks-dir var/networks` takes a free one and writes the gateway's "
    "file for it: set MYPAY_NETWORKS_DIR=var/networks for `mypay run` and `mypay topics`."
)


@unique
class DialectChoice(StrEnum):
    """Dialects, as the command line offers them."""

    ISO87_ASCII = "iso87-ascii"
    ISO87_BCD = "iso87-bcd"


@app.command()
def network(
    *,
    config: Annotated[Path | None, typer.Option(help="Simulator TOML; options override it.", dir_okay=False)] = None,
    network_id: Annotated[str | None, typer.Option(help="Name in clearing files.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    dialect: Annotated[DialectChoice | None, typer.Option(help="How fields are written.")] = None,
    header: Annotated[FrameHeader | None, typer.Option(help="How messages are framed.")] = None,
    ledger: Annotated[Path | None, typer.Option(help="SQLite file of the network's own books.", dir_okay=False)] = None,
    synchronous: Annotated[Synchronous | None, typer.Option(help="full also survives a power cut.")] = None,
    clearing_dir: Annotated[Path | None, typer.Option(help="Where clearing files go.", file_okay=False)] = None,
    clearing_key: Annotated[
        Path | None,
        typer.Option(help="Seal clearing files with the secret (hexadecimal) in this file.", dir_okay=False),
    ] = None,
    cycle_seconds: Annotated[float | None, typer.Option(help="Close a clearing cycle this often.")] = None,
    close_on_stop: Annotated[bool | None, typer.Option(help="Close a clearing cycle when stopped.")] = None,
    control_port: Annotated[int | None, typer.Option(help="Control interface on 127.0.0.1; 0: a free port.")] = None,
    decline: Annotated[
        list[str] | None, typer.Option(help="SUFFIX=CODE: refuse amounts (minor units) that end so, e.g. 051=51.")
    ] = None,
    decline_rate: Annotated[float | None, typer.Option(help="Share of requests refused at random, 0 … 1.")] = None,
    latency_ms: Annotated[float | None, typer.Option(help="Wait this long before each answer.")] = None,
    jitter_ms: Annotated[float | None, typer.Option(help="Spread of the latency, to either side.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of random declines, faults and latency.")] = None,
    tls_certificate: Annotated[
        Path | None, typer.Option(help="Speak TLS with this certificate.", dir_okay=False)
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key.", dir_okay=False)] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="Ask who connects for a certificate signed by this authority.", dir_okay=False)
    ] = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="JSON with the ports, written when it listens.", dir_okay=False)
    ] = None,
    networks_dir: Annotated[
        Path | None,
        typer.Option(
            help="Write the gateway's file of this network here, with this address, for `mypay run` with "
            "MYPAY_NETWORKS_DIR: where the usual port is taken.",
            file_okay=False,
        ),
    ] = None,
) -> None:
    """Run a card network's host (ISO 8583:1987 over TCP) until SIGTERM or Ctrl-C."""
    overrides = {
        "network_id": network_id,
        "host": host,
        "port": port,
        "dialect": dialect.value if dialect else None,
        "header": header,
        "seed": seed,
        "control_port": control_port,
        "ledger": {"path": ledger, "synchronous": synchronous},
        "clearing": {
            "directory": clearing_dir,
            "seal_key": clearing_key,
            "cycle_seconds": cycle_seconds,
            "close_on_stop": close_on_stop,
        },
        "declines": {"amount_suffixes": _suffixes(decline or []), "random_rate": decline_rate},
        "tls": {"certificate": tls_certificate, "key": tls_key, "client_ca": tls_client_ca},
        "latency": {"base_ms": latency_ms, "jitter_ms": jitter_ms},
    }
    _serve(_load(config, _given(overrides)), ready_file, networks_dir)


def _serve(loaded: SimulatorConfig, ready_file: Path | None, networks_dir: Path | None) -> None:
    listening = _no_file if networks_dir is None else _network_file(loaded, networks_dir)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(loaded, ready_file=ready_file, announce=_announce, listening=listening))
    except (OSError, sqlite3.Error, LedgerError) as error:
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        raise CliError(f"network {loaded.network_id}: {error}", hint=_ANOTHER_PORT if taken else "") from None


@app.command()
def certificates(
    out: Annotated[Path, typer.Argument(help="Folder to write into.", file_okay=False)],
    name: Annotated[
        list[str] | None, typer.Option(help="Name or address that the host is reached by (127.0.0.1, localhost).")
    ] = None,
) -> None:
    """Make an authority and certificates of a host and of the gateway, to try TLS on a card link."""
    authority = Authority()
    host = authority.issue(out, "host", names=name or ["127.0.0.1", "localhost"])
    gateway = authority.issue(out, "gateway")
    typer.echo(
        f"simulator: --tls-certificate {host.certificate} --tls-key {host.key} --tls-client-ca {host.ca}\n"
        f"the network's file:\n[tls]\nca = {json.dumps(str(gateway.ca.resolve()))}\n"
        f"certificate = {json.dumps(str(gateway.certificate.resolve()))}\n"
        f"key = {json.dumps(str(gateway.key.resolve()))}"
    )


def _announce(line: str) -> None:
    typer.echo(line)
    sys.stdout.flush()


def _no_file(_: int) -> None:
    pass


def _network_file(simulated: SimulatorConfig, folder: Path) -> Callable[[int], None]:
    """What writes the gateway's file of this network: the one of MYPAY_NETWORKS_DIR, with another address."""
    source = load_settings().networks_dir / f"{simulated.network_id}.toml"
    if folder.resolve() == source.parent.resolve():
        raise CliError(f"--networks-dir is {source.parent}, which is read: give another folder.", ExitCode.USAGE)
    text = read_input(source).decode()

    def write(port: int) -> None:
        address = json.dumps([f"{simulated.host}:{port}"])
        folder.mkdir(parents=True, exist_ok=True)
        written = re.sub(r"^addresses\s*=.*$", f"addresses = {address}", text, count=1, flags=re.MULTILINE)
        (folder / source.name).write_text(written, encoding="utf-8")

    return write


def _suffixes(declines: list[str]) -> dict[str, str]:
    table: dict[str, str] = {}
    for text in declines:
        suffix, equals, code = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"{text!r} is not SUFFIX=CODE", param_hint="--decline")
        table[suffix] = code
    return table


def _given(overrides: dict[str, Any]) -> dict[str, Any]:
    """Leave out what the command line did not name."""
    given: dict[str, Any] = {}
    for key, value in overrides.items():
        kept = _given(value) if isinstance(value, dict) else value
        if kept is not None and kept != {}:
            given[key] = kept
    return given


def _load(file: Path | None, overrides: dict[str, Any]) -> SimulatorConfig:
    try:
        return load(file, overrides)
    except ValidationError as error:
        text = faults_of(error)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        text = cause_of(error)
    hint = "Each can be an option: --ledger FILE, say. `mypay simulate network --help`"
    raise CliError(f"{file or 'options'}: {text}", ExitCode.USAGE, hint=hint)
