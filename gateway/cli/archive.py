"""``mypay archive run | show``: payments that have been final for long, out of the tables and into files."""

from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.app.archiving import open_archiving
from gateway.app.settings import Settings
from gateway.cli.common import CliError, ExitCode, Json, load_settings, postgres_dsn, print_json, print_table, run, say
from gateway.database.roles import Role
from gateway.payments.archive.service import Archived, ArchiveFileError
from gateway.payments.archive.store import ArchiveFile, FileStatus
from gateway.views.archive import ArchiveView

if TYPE_CHECKING:
    from gateway.payments.archive.files import ParquetFiles

app = typer.Typer(no_args_is_help=True)


def archive_folder(settings: Settings) -> Path:
    """Where the archive's files are."""
    return settings.archive_dir or settings.home / "archive"


def parquet_files(settings: Settings) -> "ParquetFiles":
    """The archive's folder.

    Raises:
        CliError: what reads and writes its files is not installed.
    """
    try:
        from gateway.payments.archive.files import ParquetFiles  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise CliError(f"The archive needs the package {error.name}.", hint="Install the extra `archive`.") from error
    return ParquetFiles(archive_folder(settings))


@app.command(name="run")
def run_(
    older_than_days: Annotated[
        int | None, typer.Option(min=1, help="Instead of MYPAY_ARCHIVE_AFTER_DAYS: final for so long.")
    ] = None,
    json_: Json = False,
) -> None:
    """Archive what has been final for long enough; payments go on meanwhile.

    It may be stopped at any time, and run again: it goes on where it was. Run it every day.
    """
    settings = load_settings()
    files = parquet_files(settings)
    after_days = older_than_days or settings.archive_after_days

    async def archive() -> Archived:
        dsn = postgres_dsn(settings, Role.ARCHIVE)
        async with open_archiving(dsn, settings, files, after_days=after_days) as service:
            return await service.run(_tell)

    with _alone(archive_folder(settings)):
        try:
            done = run(archive())
        except ArchiveFileError as error:
            raise CliError(
                f"{error}.", hint="Its payments are being moved into the archive: put it back, and run this again."
            ) from error
    if json_:
        print_json({"files": done.files, "payments": done.payments, "left": done.left, "abandoned": done.abandoned})
        return
    if done.abandoned:
        say(f"{done.abandoned} files of a run that was killed were thrown away: nothing had been moved for them.")
    if done.left:
        say(f"{done.left} payments changed meanwhile, or were held by somebody, and stay where they are.")
    say(f"{done.payments} payments are archived, in {done.files} files.")


def _tell(done: Archived) -> None:
    if done.payments % 10_000 < 500 and done.payments:
        say(f"{done.payments} payments are archived")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second run of this machine out: it would take the first one's file for one that was left behind."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / ".lock").open("ab") as lock:
        try:
            flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            raise CliError(f"Another run is archiving into {folder}.") from None
        yield


@app.command()
def show(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Files, the newest first.")] = 20,
    verify: Annotated[bool, typer.Option("--verify", help="Read the files, and compare their digests.")] = False,
    json_: Json = False,
) -> None:
    """Show the archive's files, and whether they are as they were written."""
    settings = load_settings()

    async def look() -> tuple[list[ArchiveFile], tuple[int, int]]:
        async with ArchiveView.opened(postgres_dsn(settings, Role.READONLY)) as view:
            return await view.files(limit), await view.total()

    listed, (files, payments) = run(look())
    folder = parquet_files(settings) if verify else None
    problems = {
        f.file_id: folder.problem(f.name, f.sha256)
        for f in listed
        if folder is not None and f.sha256 is not None and f.status in (FileStatus.WRITTEN, FileStatus.MOVED)
    }
    if json_:
        shown = [
            {
                "file": f.name,
                "status": f.status,
                "payments": f.payments,
                "sha256": f.sha256 and f.sha256.hex(),
                "written_at": f.written_at,
                **({"problem": problems.get(f.file_id)} if verify else {}),
            }
            for f in listed
        ]
        print_json({"files": files, "payments": payments, "listed": shown})
    else:
        rows = [
            (f.name, f.status, f.payments, f.written_at, "" if f.sha256 is None else f.sha256.hex()[:16])
            for f in listed
        ]
        print_table("Archive", ("file", "status", "payments", "written", "SHA-256"), rows, right=("payments",))
        say(f"{payments} payments in {files} files, in {archive_folder(settings)}.")
    if any(problems.values()):
        raise CliError("; ".join(p for p in problems.values() if p), ExitCode.FAILED)
