"""``mypay run …``: the gateway's processes. The stages live above this room, so they are started by name."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated

import typer

from gateway.cli.common import CliError, ExitCode, err, load_settings
from gateway.database.roles import Role
from gateway.observability.targets import targets

app = typer.Typer(no_args_is_help=True)

Network = Annotated[str, typer.Option(help="The card network to execute.")]


@app.command()
def initiation() -> None:
    """Take in partners' orders."""
    _become("initiation")


@app.command()
def consents() -> None:
    """Take in partners' commands on consents."""
    _become("consents")


@app.command()
def execution(network: Network) -> None:
    """Send one card network's payments, and settle those without an answer."""
    _become("execution", "--network", network)


@app.command()
def relay() -> None:
    """Bring events from the database to Kafka."""
    _become("relay")


@app.command()
def settlement() -> None:
    """Settle what networks cleared; import files that arrive in MYPAY_CLEARING_INBOX."""
    _become("settlement")


@app.command()
def schedule() -> None:
    """Do what is due: end consents, pay orders whose day has come and what standing orders ask for."""
    _become("schedule")


@app.command()
def sharing() -> None:
    """Share settled payments with the affiliates that customers name, and see that they erase them."""
    _become("sharing")


@app.command()
def marketing() -> None:
    """Make offers to customers who agree to them, count their uses, and publish aggregates."""
    _become("marketing")


@app.command()
def disclosure() -> None:
    """Write every use of a consent into the disclosure log."""
    _become("disclosure")


@app.command()
def portability() -> None:
    """Hand customers' data to the recipients that they name."""
    _become("portability")


@app.command()
def portability_api() -> None:
    """Answer recipients that ask for customers' data: TLS 1.3, with certificates on both sides."""
    _become("portability_api")


@app.command(name="all")
def all_() -> None:
    """Run every stage on this machine, a process each: one execution per configured network.

    The portability API is among them where its certificates are given.

    With MYPAY_HTTP_PORT set, each serves its metrics on a port of its own, from that one on; Prometheus finds them in
    the file prometheus/targets.json in MYPAY_HOME.

    When one process ends unasked, the others are stopped and the exit code is 1: whoever supervises this starts again.
    """
    # What one stage alone does not need: whoever starts again is waited for.
    from gateway.app.portability_api import is_configured  # noqa: PLC0415
    from gateway.network.iso8583.config import load_networks  # noqa: PLC0415

    settings = load_settings()
    networks = load_networks(settings.networks_dir)
    if not networks:
        raise CliError("No card network is configured.", ExitCode.USAGE, hint="See MYPAY_NETWORKS_DIR.")
    stages = [
        ["initiation"],
        ["consents"],
        *(["execution", "--network", n] for n in networks),
        ["relay"],
        ["settlement"],
        ["schedule"],
        ["disclosure"],
        ["portability"],
        ["sharing"],
        *([["portability_api"]] if is_configured(settings) else []),
        ["marketing"],
    ]
    ports = [settings.http_port + n if settings.http_port else 0 for n in range(len(stages))]
    if settings.http_port:
        found = settings.home / "prometheus" / "targets.json"
        found.parent.mkdir(parents=True, exist_ok=True)
        found.write_text(targets(places(stages, settings.http_host, ports)), encoding="utf-8")
    children = {
        subprocess.Popen(_command(*s), env=environment_of(s[0], os.environ, port)): " ".join(s)  # noqa: S603 - ours
        for s, port in zip(stages, ports, strict=True)
    }
    raise typer.Exit(_supervise(children))


def places(stages: Sequence[Sequence[str]], host: str, ports: Sequence[int]) -> dict[str, str]:
    """Where each process serves its metrics: by its stage, and the network of execution."""
    return {" ".join((s[0], *s[2:])): f"{host}:{port}" for s, port in zip(stages, ports, strict=True)}


def environment_of(stage: str, given: Mapping[str, str], port: int) -> dict[str, str]:
    """What a stage's process is given: no database user's address but its own, and its own port."""
    own = f"MYPAY_POSTGRES_DSN_{stage.upper()}"
    others = {f"MYPAY_POSTGRES_DSN_{r.value.upper()}" for r in Role} - {own}
    if own in given:
        others.add("MYPAY_POSTGRES_DSN")
    kept = {name: value for name, value in given.items() if name not in others}
    return {**kept, "MYPAY_HTTP_PORT": str(port)}


def _supervise(children: dict["subprocess.Popen[bytes]", str]) -> int:
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True
        for child in children:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    failed = 0
    running = dict(children)
    while running:
        # Wakes when any child ends, without taking its exit code from Popen; the last may have gone a moment ago.
        with suppress(ChildProcessError):
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        for child in [c for c in running if c.poll() is not None]:
            name = running.pop(child)
            if child.returncode or not stopping:
                err().print(f"{name} ended with exit code {child.returncode}")
                failed = 1
                stop()
    return failed


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "streams", *arguments]


def _become(*arguments: str) -> None:
    command = _command(*arguments)
    os.execv(command[0], command)  # noqa: S606 - our own interpreter and module
