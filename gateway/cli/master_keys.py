"""``mypay keys master reseal | retire | list``: from one master key to the next, and what still needs the old one."""

from typing import Annotated

import typer

from gateway.app.registries import open_registries
from gateway.app.resealing import RESEAL_BATCH, MasterKeyUse, Resealed, key_uses, reseal_all, set_aside
from gateway.app.settings import Settings
from gateway.cli.arguments import key_id
from gateway.cli.common import (
    CliError,
    ExitCode,
    Json,
    load_settings,
    postgres_dsn,
    print_json,
    print_table,
    run,
    say,
)
from gateway.cli.operating import operated
from gateway.directory.cards import CardSealer
from gateway.sealing.key_ring import ring_ids
from gateway.sealing.sealing import MasterKeys, NoMasterKeyError
from gateway.views.tokens import TokensView

KeyIdArgument = Annotated[str, typer.Argument(metavar="KEY", parser=key_id)]
Batch = Annotated[int, typer.Option(min=1, max=10_000, help="Cards a transaction.")]


@operated("keys master reseal", lambda **_: "all")
def reseal(batch: Batch = RESEAL_BATCH, json_: Json = False) -> None:
    """Seal every card anew under the newest master key; payments go on meanwhile.

    It may be stopped at any time and run again: it goes on with what is left. Afterwards `mypay keys master retire`
    takes the old keys out of use.
    """
    settings = load_settings()
    keys = MasterKeys.load(settings.master_keys_dir)
    newest = keys.newest
    if newest is None:
        raise NoMasterKeyError("no master key is configured")

    async def write() -> Resealed:
        async with TokensView.opened(postgres_dsn(settings)) as tokens:
            under = await tokens.count_by_key()
        wanted = sum(n for key, n in under.items() if key != newest)
        say(f"{wanted} cards are sealed under other keys than {newest}.")

        def tell(made: Resealed) -> None:
            say(f"{made.done} of {wanted} sealed anew")

        async with open_registries(postgres_dsn(settings)) as registries:
            return await reseal_all(registries.tokens, CardSealer(keys), newest, batch=batch, progress=tell)

    made = run(write())
    unopened = {cause.value: n for cause, n in made.unopened.items()}
    if json_:
        print_json({"key_id": newest, "resealed": made.done, "left": made.left, "unopened": unopened})
    if unopened:
        causes = ", ".join(f"{n} {cause}" for cause, n in unopened.items())
        raise CliError(
            f"{sum(unopened.values())} cards do not open ({causes}) and stay as they are: {', '.join(made.named)}",
            hint="Their orders are rejected; put a missing key back, or give the customers new tokens.",
        )
    if made.left:
        raise CliError(f"{made.left} cards were changed meanwhile.", hint="Run it again.")
    if not json_:
        say(f"{made.done} cards are sealed anew; all are under {newest}.")


@operated("keys master retire", lambda *, key, **_: str(key))
def retire(key: KeyIdArgument, json_: Json = False) -> None:
    """Take a master key out of use that nothing needs any more; refused while a card is sealed under it.

    The file stays, renamed: keep it for as long as you keep backups of the database from before.
    """
    settings = load_settings()
    found = {use.key_id: use for use in _uses(settings)}.get(key)
    if found is None or not found.is_here:
        raise CliError(f"There is no master key {key} here.", ExitCode.NOT_FOUND, hint="`mypay keys master list`")
    if found.seals:
        raise CliError(f"Master key {key} is the newest: it seals.", hint="`mypay keys master create` makes the next.")
    if found.tokens:
        raise CliError(
            f"{found.tokens} cards are still sealed under master key {key}.",
            hint="`mypay keys master reseal` seals them anew.",
        )
    path = set_aside(settings.master_keys_dir, key)
    if json_:
        print_json({"key_id": key, "file": path})
    else:
        say(f"Master key {key} is retired: {path}. Processes forget it when they restart.")


def list_(json_: Json = False) -> None:
    """Show the master keys' ids and how many cards need each; the keys themselves are never shown."""
    rows = _uses(load_settings())
    if json_:
        print_json(rows)
        return
    shown = [(r.key_id, "yes" if r.is_here else "missing", r.seals, r.tokens) for r in rows]
    print_table("Master keys", ("id", "here", "seals", "cards under it"), shown, right=("cards under it",))


def _uses(settings: Settings) -> list[MasterKeyUse]:
    # From the files' names alone: nothing here needs the keys.
    ids = ring_ids(settings.master_keys_dir)

    async def read() -> list[MasterKeyUse]:
        async with TokensView.opened(postgres_dsn(settings)) as tokens:
            return key_uses(ids, await tokens.count_by_key())

    return run(read())
