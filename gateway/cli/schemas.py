"""``mypay schemas …``: the published contract, made from the code and held against it."""

import json
import subprocess
from pathlib import Path
from typing import Annotated, Final

import typer

import schemas
from gateway.cli.common import CliError, ExitCode, Json, print_json, say
from schemas.compatibility import breaking_changes
from schemas.publish import directions, render

app = typer.Typer(no_args_is_help=True)

PUBLISHED: Final = Path(schemas.__path__[0]) / "published"

Directory = Annotated[Path, typer.Option(help="Where the files are.", file_okay=False)]


@app.command()
def generate(
    directory: Directory = PUBLISHED,
    allow_breaking: Annotated[
        bool, typer.Option("--allow-breaking", help="Write although a change breaks others: before a first release.")
    ] = False,
    json_: Json = False,
) -> None:
    """Write the JSON Schemas and the AsyncAPI document. Refuses a change that would break others."""
    files = render()
    before = {p.name: p.read_text(encoding="utf-8") for p in directory.glob("*") if p.is_file()}
    broken = _broken(before, files)
    if broken and not allow_breaking:
        _tell(broken, json_=json_)
        raise CliError("Nothing was written: this breaks others.", hint="Make it a new version of the message (… .v2).")
    directory.mkdir(parents=True, exist_ok=True)
    changed = sorted(n for n, text in files.items() if before.get(n) != text)
    gone = sorted(before.keys() - files.keys())
    for name in changed:
        (directory / name).write_text(files[name], encoding="utf-8")
    for name in gone:
        (directory / name).unlink()
    if json_:
        print_json({"written": changed, "removed": gone, "breaking": broken})
    else:
        say(f"{len(changed)} of {len(files)} files written, {len(gone)} removed.")


@app.command()
def check(
    directory: Directory = PUBLISHED,
    against: Annotated[
        str, typer.Option(metavar="REVISION", help="Git revision whose published files nothing may break.")
    ] = "HEAD",
    json_: Json = False,
) -> None:
    """Compare the files with the code, and the code with what was published before; exit with 1 on a difference."""
    files = render()
    present = {p.name: p.read_text(encoding="utf-8") for p in directory.glob("*") if p.is_file()}
    drift = sorted(n for n in files.keys() | present.keys() if files.get(n) != present.get(n))
    broken = _broken(_committed(directory, against), files)
    if json_:
        print_json({"drift": drift, "breaking": broken})
    else:
        for name in drift:
            say(f"{directory / name} is not what the code says: run `mypay schemas generate`.")
        _tell(broken, json_=False)
        if not drift and not broken:
            say(f"{len(files)} published files are what the code says.")
    if drift or broken:
        raise typer.Exit(ExitCode.FAILED)


def _broken(before: dict[str, str], after: dict[str, str]) -> dict[str, list[str]]:
    """File → what would break whom; for files that others may rely on."""
    broken: dict[str, list[str]] = {}
    written_by = directions()
    for name in sorted(n for n in before if n.endswith(".json")):
        if name not in after:
            broken[name] = ["the message was removed"]
        elif found := breaking_changes(json.loads(before[name]), json.loads(after[name]), written_by[name]):
            broken[name] = found
    return broken


def _tell(broken: dict[str, list[str]], *, json_: bool) -> None:
    if json_:
        print_json({"breaking": broken})
        return
    for name, changes in broken.items():
        for change in changes:
            say(f"{name}: {change}")


def _committed(directory: Path, revision: str) -> dict[str, str]:
    """The files as they stand in a revision; none outside of a git work tree, or where they were not yet."""
    listed = _git(directory, "ls-tree", "--name-only", revision, "./")
    return {
        name: text for name in (listed or "").splitlines() if (text := _git(directory, "show", f"{revision}:./{name}"))
    }


def _git(directory: Path, *arguments: str) -> str | None:
    if not directory.is_dir():
        return None
    try:
        done = subprocess.run(  # noqa: S603 - a fixed program, without a shell
            ["git", "--no-pager", *arguments],  # noqa: S607 - whichever git the person has
            cwd=directory,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        return None
    return done.stdout.decode() if done.returncode == 0 else None
