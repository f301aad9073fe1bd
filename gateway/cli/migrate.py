"""``mypay migrate``: the database's tables, and who may do what to them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gateway.cli.common import CliError, ExitCode, Json, load_settings, postgres_dsn, print_json, run, say
from gateway.database.errors import translated
from gateway.database.grants import GRANTS_FILE, ROLES_FILE, apply_roles, grants_sql, roles_sql
from gateway.database.migrate import migrate
from gateway.database.roles import RUNNING, Role

if TYPE_CHECKING:
    from gateway.app.settings import Settings

app = typer.Typer(invoke_without_command=True)

DIRECTORY: Final = Path("deploy/postgres")


@app.callback()
def tables(context: typer.Context, json_: Json = False) -> None:
    """Bring the database's tables up to this version.

    Safe to run at any time, from any number of processes. Runs as mypay_owner (MYPAY_POSTGRES_DSN_OWNER) where
    `mypay migrate roles` has made it the owner, and then gives each role exactly its rights.
    On a local stack it makes the roles too.
    """
    if context.invoked_subcommand is not None:
        return
    applied = run(_migrate(load_settings()))
    if json_:
        print_json({"applied": applied})
    elif applied:
        say(f"Applied {', '.join(applied)}.")
    else:
        say("The database is up to date.")


@app.command()
def roles(
    show: Annotated[bool, typer.Option("--print", help="Print the SQL.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Run it, as the user of MYPAY_POSTGRES_DSN.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Write it to the directory.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Compare the directory's files with it.")] = False,
    directory: Annotated[Path, typer.Option(help="Where the SQL is kept.")] = DIRECTORY,
) -> None:
    """One database user a process, with the rights that it needs and no others.

    roles.sql makes the users and is run by a superuser; grants.sql is run by `mypay migrate` itself. Passwords are
    yours to set, or certificates: none is made here.
    """
    files = {ROLES_FILE: roles_sql(), GRANTS_FILE: grants_sql()}
    match (show, apply, write, check):
        case (True, False, False, False):
            typer.echo("\n".join(files.values()))
        case (False, True, False, False):
            settings = load_settings()
            run(_apply(settings))
            say(f"The roles are there: {', '.join(r.user for r in Role)}. Now run `mypay migrate`.")
        case (False, False, True, False):
            directory.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                (directory / name).write_text(text, encoding="utf-8")
            say(f"Wrote {', '.join(files)} to {directory}.")
        case (False, False, False, True):
            drift = [n for n, text in files.items() if not _is_written(directory / n, text)]
            if drift:
                raise CliError(f"{', '.join(drift)} in {directory} is not what the code says.", hint=_REWRITE)
            say(f"{len(files)} files with roles and rights of {len(RUNNING)} processes are what the code says.")
        case _:
            raise CliError("Say one of --print, --apply, --write and --check.", ExitCode.USAGE)


_REWRITE: Final = "Run `mypay migrate roles --write`."


def _is_written(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == text
    except FileNotFoundError:
        return False


async def _migrate(settings: "Settings") -> list[str]:
    dsn = postgres_dsn(settings, Role.OWNER)
    async with translated():
        if settings.postgres_dsn_owner is None and settings.postgres_dsn is None:
            await apply_roles(dsn)  # the local stack's, whose superuser this is
        return await migrate(dsn)


async def _apply(settings: "Settings") -> None:
    # As a superuser, who is none of the roles: not whom migrations run as.
    dsn = postgres_dsn(settings.model_copy(update={"postgres_dsn_owner": None}), Role.OWNER)
    async with translated():
        await apply_roles(dsn)
