"""``mypay docs …``: the guides' tables, made from the code and held against it."""

from pathlib import Path
from typing import Annotated, Final

import typer

import gateway
from gateway.cli.common import CliError, ExitCode, Json, print_json, say
from gateway.cli.docs.docstrings import UntoldError
from gateway.cli.docs.monitoring import FILES
from gateway.cli.docs.pages import MarkerError, dead_ends, filled, tables_in
from gateway.cli.docs.tables import TABLES
from gateway.observability.alerts import ALERTS, RUNBOOKS

app = typer.Typer(no_args_is_help=True)

ROOT: Final = Path(gateway.__path__[0]).parent
PAGES: Final = (
    "README.md",
    "ARCHITECTURE.md",
    "schemas/README.md",
    "schemas/RECIPIENTS.md",
    "schemas/AFFILIATES.md",
    "deploy/README.md",
    "deploy/CONSOLE.md",
    "deploy/RESTORE.md",
    "deploy/REFERENCE.md",
    "deploy/kafka/README.md",
    "deploy/postgres/README.md",
    "gateway/proving/README.md",
    "deploy/prometheus/README.md",
    "deploy/grafana/README.md",
    *(f"{RUNBOOKS}/{alert.runbook}" for alert in ALERTS),
)
"""Every page for people, from the project's root."""

Directory = Annotated[Path, typer.Option(help="The project's root.", file_okay=False)]


@app.command()
def generate(directory: Directory = ROOT, json_: Json = False) -> None:
    """Write the tables that are marked in the guides anew."""
    before, after = _read(directory)
    changed = [name for name in after if after[name] != before[name]]
    for name in changed:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(after[name], encoding="utf-8")
    if json_:
        print_json({"written": changed})
    else:
        say(f"{len(changed)} of {len(after)} files written.")


@app.command()
def check(directory: Directory = ROOT, json_: Json = False) -> None:
    """Compare the tables with the code, and look what the guides point to; exit with 1 where something is not so."""
    before, after = _read(directory)
    drift = [name for name in after if after[name] != before[name]]
    missing = sorted(TABLES.keys() - {table for page in before.values() for table in tables_in(page)})
    nowhere = {
        name: found for name, page in before.items() if name in PAGES and (found := dead_ends(name, page, directory))
    }
    if json_:
        print_json({"drift": drift, "missing": missing, "nowhere": nowhere})
    else:
        for name in drift:
            say(f"{directory / name} is not what the code says: run `mypay docs generate`.")
        for table in missing:
            say(f"The table {table} is in no guide.")
        for name, found in nowhere.items():
            say(f"{directory / name} points to what is not there: {', '.join(found)}.")
        if not drift and not missing and not nowhere:
            say(f"{len(TABLES)} tables in {len(PAGES)} guides, and {len(FILES)} files are what the code says.")
    if drift or missing or nowhere:
        raise typer.Exit(ExitCode.FAILED)


def _read(directory: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Every guide as it stands, and as it should be."""
    before: dict[str, str] = {}
    after: dict[str, str] = {}
    for name in PAGES:
        try:
            before[name] = (directory / name).read_text(encoding="utf-8")
            after[name] = filled(before[name], TABLES)
        except OSError as error:
            raise CliError(f"{directory / name}: {error.strerror}.", ExitCode.NOT_FOUND) from None
        except (MarkerError, UntoldError) as error:
            raise CliError(f"{directory / name}: {error}.") from None
    for name, made in FILES.items():
        file = directory / name
        before[name] = file.read_text(encoding="utf-8") if file.exists() else ""
        after[name] = made()
    return before, after
