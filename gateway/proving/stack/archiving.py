"""A local stack's PostgreSQL with an archive of its log: a base backup, its loss, and a restore to a point in time."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import asyncpg

from gateway.proving.stack import processes
from gateway.proving.stack.databases import execute
from gateway.proving.stack.errors import LocalStackError
from gateway.proving.stack.postgres import PORT, SUPERUSER, PostgresServer, binary, system_user
from gateway.proving.stack.readiness import log_tail, run, wait_until_ready
from gateway.proving.stack.server import START_TIMEOUT_S
from gateway.proving.stack.state import StackDir

_BASE_BACKUP_TIMEOUT_S: Final = 120.0


def keep_archive(name: str, *, home: Path) -> None:
    """Let PostgreSQL put each finished piece of its log into a folder of the stack's. Restarts it."""
    server, archive = _server(name, home)
    archive.mkdir(exist_ok=True)
    if (user := system_user()) is not None:
        shutil.chown(archive, user, user)
    run(execute(server.address(()), "ALTER SYSTEM SET archive_mode = 'on'"))
    # Never over one that is there, and whole or not at all: as PostgreSQL's manual asks.
    command = f'test ! -e "{archive}/%f" && cp "%p" "{archive}/%f.tmp" && mv "{archive}/%f.tmp" "{archive}/%f"'
    run(execute(server.address(()), f"ALTER SYSTEM SET archive_command = '{command}'"))
    server.stop()
    server.start(same_address=True)


def base_backup(name: str, *, home: Path) -> None:
    """Copy its data while it works."""
    server, _ = _server(name, home)
    target = _backup(server)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(mode=0o700)
    if (user := system_user()) is not None:
        shutil.chown(target, user, user)
    source = f"host={server.socket_dir} port={PORT} user={SUPERUSER}"
    argv = [str(binary("pg_basebackup")), "-D", str(target), "-d", source, "-c", "fast", "-X", "fetch"]
    processes.run_to_end(
        "Backing PostgreSQL up", argv, cwd=server.stack.data, timeout_s=_BASE_BACKUP_TIMEOUT_S, user=user
    )


def archive_now(name: str, *, home: Path) -> None:
    """Finish the present piece of the log, so that it is archived: what an operator's ``archive_timeout`` does."""
    server, _ = _server(name, home)
    run(execute(server.address(()), "SELECT pg_switch_wal()"))


def archived(name: str, *, home: Path) -> bool:
    """True once all that was finished is archived."""
    server, archive = _server(name, home)
    return not list((server.data / "pg_wal" / "archive_status").glob("*.ready")) and any(archive.iterdir())


def lose_postgres(name: str, *, home: Path) -> None:
    """End it at once, and delete its data: what is left is the backup and the archive."""
    server, _ = _server(name, home)
    server.kill()
    server.delete()


def restore_postgres(name: str, *, home: Path, to: datetime) -> None:
    """Put the backup in its place, and let it follow the archive up to a moment; it is then a primary again.

    Raises:
        LocalStackError: there is no backup, or PostgreSQL does not come up.
    """
    server, archive = _server(name, home)
    backup = _backup(server)
    if not backup.is_dir():
        raise LocalStackError("There is no base backup.", "")
    backup.rename(server.data)
    settings = {
        "restore_command": f'cp "{archive}/%f" "%p"',
        "recovery_target_time": to.astimezone(UTC).isoformat(sep=" "),
        "recovery_target_action": "promote",
    }
    with (server.data / "postgresql.auto.conf").open("a", encoding="utf-8") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
    (server.data / "recovery.signal").touch()
    if (user := system_user()) is not None:
        shutil.chown(server.data / "recovery.signal", user, user)
    server.start(same_address=True)
    wait_until_ready(
        f"The restore of stack '{name}'",
        lambda: _writes(server.address(())),
        lambda: server.running() is not None,
        lambda: log_tail(server.log),
        timeout_s=START_TIMEOUT_S,
    )


def _server(name: str, home: Path) -> tuple[PostgresServer, Path]:
    stack = StackDir.of(name, home)
    return PostgresServer(stack, _quiet), stack.path.resolve() / "archive"


def _backup(server: PostgresServer) -> Path:
    return server.data.with_suffix(".backup")


def _writes(dsn: str) -> bool:
    return bool(run(_ask(dsn, "SELECT NOT pg_is_in_recovery()")))


def _quiet(message: str) -> None:
    del message


async def _ask(dsn: str, sql: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()
