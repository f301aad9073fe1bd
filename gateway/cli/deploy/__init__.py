"""``mypay deploy …``: the files of deploy/ that are made from the code's tables, and certificates to try them with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import typer
import yaml

import gateway
from gateway.app.stages import STAGES
from gateway.cli.common import CliError, ExitCode, Json, print_json, say
from gateway.cli.deploy.compose import compose_file, prometheus_file
from gateway.cli.deploy.console import CONSOLE_USERS
from gateway.cli.deploy.helm import chart_files
from gateway.cli.deploy.systemd import unit_files
from gateway.cli.deploy.values import values_schema
from gateway.database.roles import Role
from gateway.network.iso8583.config import load_networks
from gateway.sealing.files import write_secret_file

app = typer.Typer(no_args_is_help=True)

ROOT: Final = Path(gateway.__path__[0]).parent / "deploy"

Directory = Annotated[Path, typer.Option(help="The folder deploy of the sources.", file_okay=False)]


def rendered(directory: Path) -> Mapping[str, str]:
    """Path below deploy/ → what stands in it."""
    networks = sorted(load_networks(directory / "networks"))
    alerts = {name: _text(directory / "prometheus" / name) for name in ("rules.yaml", "alerts.yaml")}
    values = directory / "helm" / "mypay" / "values.yaml"
    if not values.is_file():
        raise CliError(f"{values} is not there: is {directory} the folder deploy of the sources?", ExitCode.USAGE)
    return {
        "compose.yaml": compose_file(networks),
        "compose/prometheus.yml": prometheus_file(networks),
        "helm/mypay/values.schema.json": values_schema(yaml.safe_load(_text(values))),
        **{f"helm/mypay/files/{name}": text for name, text in chart_files(alerts).items()},
        **{f"systemd/{name}": text for name, text in unit_files(networks).items()},
    }


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


@app.command()
def generate(directory: Directory = ROOT, json_: Json = False) -> None:
    """Write the files that are made from the tables of stages, topics, access rules and alerts."""
    written = _drift(directory)
    files = rendered(directory)
    for name in written:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[name], encoding="utf-8")
    if json_:
        print_json({"written": written})
    else:
        say(f"{len(written)} of {len(files)} files written.")


@app.command()
def check(directory: Directory = ROOT, json_: Json = False) -> None:
    """Compare the files with the code; the exit code is 1 where one is not what the code says."""
    drift = _drift(directory)
    if json_:
        print_json({"drift": drift})
    else:
        for name in drift:
            say(f"{directory / name} is not what the code says: run `mypay deploy generate`.")
        if not drift:
            say(f"{len(rendered(directory))} files of deploy/ are what the code says.")
    if drift:
        raise typer.Exit(ExitCode.FAILED)


def _drift(directory: Path) -> list[str]:
    return [name for name, text in rendered(directory).items() if _text(directory / name) != text]


@app.command()
def certificates(
    out: Annotated[Path, typer.Argument(help="An empty folder to write into.", file_okay=False)],
    network: Annotated[list[str] | None, typer.Option(help="A card network; may be given several times.")] = None,
    partner: Annotated[list[str] | None, typer.Option(help="A partner; may be given several times.")] = None,
) -> None:
    """Make an authority and certificates for Kafka, PostgreSQL and every process: to try things out, and no more.

    Each process gets a folder of its own: to Kafka and to PostgreSQL it is who its certificates say. The authority's
    own key is not kept.
    """
    from gateway.proving.stack.certificates import Authority  # noqa: PLC0415 - of all commands this one alone needs it

    if out.exists() and any(out.iterdir()):
        raise CliError(f"{out} is not empty: nothing was written.", ExitCode.USAGE)
    authority = Authority()

    def issue(folder: str, name: str, names: tuple[str, ...] = (), *, as_file: str = "") -> None:
        # A broker is its controller's client: it shows the same certificate there.
        files = authority.issue(out / folder, name, names=names, connects=folder == "kafka")
        files.certificate.rename(out / folder / f"{as_file or name}.crt")
        files.key.rename(out / folder / f"{as_file or name}.key")

    for server in ("kafka", "postgres"):
        issue(server, f"mypay-{server}", (server, "localhost", "127.0.0.1"), as_file="server")
    broker = out / "kafka"
    write_secret_file(
        broker / "broker.pem", (broker / "server.key").read_bytes() + (broker / "server.crt").read_bytes()
    )
    for stage in STAGES:
        for member in (network or []) if stage.per_network else [""]:
            folder = stage.name + (f"-{member}" if member else "")
            issue(folder, stage.principal(member))
            issue(folder, f"mypay_{stage.role.value}")
    processes = {stage.role.value for stage in STAGES}
    people = [role.user for role in Role if role.value not in processes]
    for name in ("mypay-admin", "mypay-ops", "mypay-clearing-import", "postgres", *people):
        issue("operator", name)
    for name in CONSOLE_USERS:
        issue("console", name)
    for name in partner or []:
        issue(f"partner-{name}", f"mypay-partner-{name}")
        issue("operator", f"mypay-partner-{name}")
    say(f"Certificates are in {out}, a folder for each process. They are for trying out.")
