"""``mypay clearing …``: networks' clearing files."""

import asyncio
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from gateway.app.clock import SystemClock
from gateway.app.keys import Ring, load_ring
from gateway.app.settings import Settings
from gateway.app.settlement import clearing_seals
from gateway.base.process import SilentObserver
from gateway.cli.common import (
    CliError,
    ExitCode,
    Json,
    load_settings,
    money,
    open_publisher,
    postgres_dsn,
    print_json,
    print_table,
    run,
    say,
    say_if_cut,
    shown,
    there,
)
from gateway.cli.operating import current_actor, operated
from gateway.cli.operations import Propose, carry_out
from gateway.database.roles import Role
from gateway.messaging.parking import KafkaDeadLetters
from gateway.network.iso8583.config import load_networks
from gateway.settlement.files import ClearingFile, ClearingImport, FileOutcome, ImportReport
from gateway.settlement.resolutions import RecordPlace, Resolution
from gateway.settlement.store import SEAL_SUFFIXES
from gateway.views.attention import AttentionView, Break, ResolvedBreak
from schemas.principals import Principal
from schemas.principals import Role as Party

app = typer.Typer(no_args_is_help=True)


def _place(text: str | RecordPlace) -> RecordPlace:
    try:
        return text if isinstance(text, RecordPlace) else RecordPlace.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(help="Clearing files.", dir_okay=False, callback=there)],
    force: Annotated[
        bool, typer.Option("--force", help="Import what can be read although the trailer does not agree.")
    ] = False,
    unsealed: Annotated[bool, typer.Option("--unsealed", help="Do not ask for the network's seal.")] = False,
    json_: Json = False,
) -> None:
    """Publish files' records for settlement. Safe to repeat: a record counts once, and a corrected one supersedes.

    A file that breaks off, whose trailer does not agree, or that lacks its network's seal (FILE.hmac or FILE.sig) is
    not imported. Lines that are no records are left out, and told in a report that is parked as a dead letter. In both
    cases the exit code is 1.
    """
    reports = run(_import(load_settings(), files, force=force, sealed=not unsealed))
    if json_:
        imported = [r for r in reports if r.network_id]
        failed = [{"file": r.file, "why": "; ".join(r.problems)} for r in reports if not r.network_id]
        print_json({"files": imported, "failed": failed})
    else:
        columns = ("file", "outcome", "network", "cycle", "records", "published", "bad lines", "problems")
        rows = [
            (
                *(r.file, r.outcome.value, r.network_id, r.cycle_id, r.records, r.published, r.bad_lines),
                "\n".join((*r.problems, *r.bad)),
            )
            for r in reports
        ]
        print_table("Clearing files", columns, rows, right=("records", "published", "bad lines"))
        if any(r.outcome is FileOutcome.FAILED for r in reports):
            say("Nothing of a file that failed was imported; --force imports what can be read, if its seal is good.")
    if any(r.outcome is not FileOutcome.DONE for r in reports):
        raise typer.Exit(ExitCode.FAILED)


@app.command()
def breaks(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Rows at most, the youngest first.")] = 100,
    resolved: Annotated[bool, typer.Option("--resolved", help="Instead: those that were dealt with, and how.")] = False,
    json_: Json = False,
) -> None:
    """Show cleared records that fit no payment, the youngest first: what each says, and what is wrong with it."""
    if resolved:
        _show_resolved(limit, json_=json_)
        return
    found = run(_breaks(limit))
    say_if_cut(found, limit)
    if json_:
        print_json(found)
        return
    columns = ("record", "break", "amount", "kind", "RRN", "detail", "imported", "payment")
    rows = [
        (
            RecordPlace(b.network_id, b.cycle_id, b.record_no),
            *(b.break_kind.replace("_", " "), money(b.amount_minor, b.currency), b.kind, b.rrn, b.break_detail),
            # On which day is enough here; --json has the moment.
            *(shown(b.imported_at)[:10], b.payment_id),
        )
        for b in found
    ]
    print_table("Breaks", columns, rows, right=("amount",), whole=("record", "RRN", "imported"))


def _show_resolved(limit: int, *, json_: bool) -> None:
    async def read() -> list[ResolvedBreak]:
        async with AttentionView.opened(postgres_dsn(load_settings(), Role.READONLY)) as attention:
            return await attention.resolved(limit=limit)

    found = run(read())
    say_if_cut(found, limit)
    if json_:
        print_json(found)
        return
    columns = ("record", "break", "resolution", "why", "by", "when")
    rows = [
        (
            RecordPlace(r.network_id, r.cycle_id, r.record_no),
            r.break_kind.replace("_", " "),
            r.resolution.replace("_", " "),
            r.why,
            r.resolved_by,
            r.resolved_at,
        )
        for r in found
    ]
    print_table("Resolved breaks", columns, rows)


@app.command()
@operated("clearing resolve", lambda *, record, **_: str(record))
def resolve(
    record: Annotated[
        RecordPlace, typer.Argument(metavar="RECORD", parser=_place, help="NETWORK/CYCLE/RECORD, as `breaks` shows it.")
    ],
    how: Annotated[Resolution, typer.Option("--as", help="What was done about it.")],
    propose: Propose = False,
) -> None:
    """Note what was done about a break, so that it is open no more. Say in --why where the money is.

    It books nothing. A record that its network corrects is another break, and one that comes to fit its payment still
    settles it.
    """
    settings = load_settings()
    if not (why := current_actor().why):
        raise CliError("Why? Give --why TEXT: it stays with the break.", ExitCode.USAGE)
    payload = {**asdict(record), "resolution": how.value, "reason": why}
    told, _ = carry_out(settings, "break.resolve", str(record), payload, propose=propose)
    say(told)


async def _breaks(limit: int) -> list[Break]:
    async with AttentionView.opened(postgres_dsn(load_settings(), Role.READONLY)) as attention:
        return await attention.breaks(limit=limit)


async def _import(settings: Settings, files: list[Path], *, force: bool, sealed: bool) -> list[ImportReport]:
    networks = frozenset(load_networks(settings.networks_dir))
    async with open_publisher(settings, Principal(Party.CLEARING_IMPORT).name) as publisher:
        importing = ClearingImport(
            publisher=publisher,
            dead_letters=KafkaDeadLetters(publisher, load_ring(settings, Ring.DEAD_LETTER)),
            observer=SilentObserver(),
            clock=SystemClock(),
            seals=clearing_seals(settings, networks),
            networks=networks,
        )
        return [await _bring(importing, path, force=force, sealed=sealed) for path in files]


async def _bring(importing: ClearingImport, path: Path, *, force: bool, sealed: bool) -> ImportReport:
    """Bring a file from a copy that nobody else changes meanwhile."""
    with tempfile.TemporaryFile() as copy:
        try:
            source = await asyncio.to_thread(_copied, path, copy)
        except OSError as error:
            why = f"the file cannot be read: {error.strerror}"
            return ImportReport(path.name, FileOutcome.FAILED, problems=(why,))
        return await importing.bring(source, force=force, sealed=sealed)


def _copied(path: Path, copy: BinaryIO) -> ClearingFile:
    with path.open("rb") as file:
        shutil.copyfileobj(file, copy)
    copy.seek(0)
    beside = {suffix: path.with_name(path.name + suffix) for suffix in SEAL_SUFFIXES}
    seals = {suffix: seal.read_bytes() for suffix, seal in beside.items() if seal.is_file()}
    return ClearingFile(copy, path.name, seals, int(path.stat().st_mtime * 1000))
