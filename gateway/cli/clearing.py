"""``mypay clearing …``: networks' clearing files."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.adapters.crypto.vault import MasterKeys
from gateway.adapters.iso8583.config import load_networks
from gateway.adapters.kafka.dead_letter import KafkaDeadLetters
from gateway.cli.common import (
    ExitCode,
    Json,
    SilentObserver,
    load_settings,
    open_publisher,
    print_json,
    print_table,
    run,
    say,
)
from gateway.services.clearing_files import ImportReport, import_file
from gateway.services.clearing_format import ClearingFileError
from gateway.settings import Settings

app = typer.Typer(help="Networks' clearing files.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    # A callback keeps "import" a command of its own while it is the only one.
    pass


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(help="Clearing files.", dir_okay=False)],
    force: Annotated[
        bool, typer.Option("--force", help="Import what can be read although the trailer does not agree.")
    ] = False,
    json_: Json = False,
) -> None:
    """Publish files' records for settlement. Safe to repeat: a record counts once.

    A line that is no record is parked as a dead letter. A file that breaks off, or whose trailer does not agree, is not
    imported; the exit code is then 1.
    """
    reports, failures = run(_import(load_settings(), files, force=force))
    if json_:
        print_json({"files": reports, "failed": [{"file": f, "why": why} for f, why in failures.items()]})
    else:
        columns = ("file", "network", "cycle", "records", "published", "bad lines", "problems")
        rows = [
            (r.file, r.network_id, r.cycle_id, r.records, r.published, r.bad_lines, "\n".join(r.problems))
            for r in reports
        ]
        if rows:
            print_table("Clearing files", columns, rows, right=("records", "published", "bad lines"))
        for file, why in failures.items():
            say(f"{file}: {why}")
        if any(r.problems and not r.published for r in reports):
            say("Nothing of a file with problems was imported; --force imports what can be read.")
    if failures or any(r.problems for r in reports):
        raise typer.Exit(ExitCode.FAILED)


async def _import(settings: Settings, files: list[Path], *, force: bool) -> tuple[list[ImportReport], dict[str, str]]:
    networks = load_networks(settings.networks_dir)
    reports: list[ImportReport] = []
    failures: dict[str, str] = {}
    async with open_publisher(settings) as publisher:
        parked = KafkaDeadLetters(publisher, MasterKeys.load(settings.master_keys_dir))
        for file in files:
            try:
                report = await import_file(file, publisher, parked, SilentObserver(), networks=networks, force=force)
            except ClearingFileError as error:
                failures[str(file)] = str(error)
            else:
                reports.append(report)
    return reports, failures
