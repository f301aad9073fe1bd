"""``mypay migrate``."""

from gateway.adapters.postgres.errors import translated
from gateway.adapters.postgres.migrate import migrate
from gateway.cli.common import Json, load_settings, postgres_dsn, print_json, run, say


def command(json_: Json = False) -> None:
    """Bring the database's tables up to this version. Safe to run at any time, from any number of processes."""
    applied = run(_migrate(postgres_dsn(load_settings())))
    if json_:
        print_json({"applied": applied})
    elif applied:
        say(f"Applied {', '.join(applied)}.")
    else:
        say("The database is up to date.")


async def _migrate(dsn: str) -> list[str]:
    async with translated():
        return await migrate(dsn)
