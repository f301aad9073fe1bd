"""``mypay merchant …``: the directory of whom partners may have paid."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway.app.registries import open_registries
from gateway.app.settings import Settings
from gateway.cli.common import (
    ExitCode,
    Json,
    load_settings,
    postgres_dsn,
    print_json,
    print_table,
    read_input,
    run,
    say,
    there,
)
from gateway.cli.operating import operated
from gateway.directory.merchant_files import MerchantFile, read_merchants
from gateway.directory.merchants import Merchant
from gateway.network.iso8583.config import load_networks
from gateway.views.merchants import MerchantsView

app = typer.Typer(no_args_is_help=True)

_BATCH: Final = 5_000
"""Rows a statement: a second of work, and a bounded message to the server."""


def _read(
    file: Annotated[
        Path, typer.Argument(help="CSV with a header line, or JSON lines; - reads standard input.", callback=there)
    ],
    any_network: Annotated[
        bool, typer.Option("--any-network", help="Also merchants of networks that have no file in MYPAY_NETWORKS_DIR.")
    ] = False,
) -> MerchantFile:
    configured = None if any_network else load_networks(load_settings().networks_dir).keys()
    return read_merchants(read_input(file), configured=configured)


@app.command("import")
@operated("merchant import", lambda *, file, **_: file.name, reads=_read)
def import_(
    read: MerchantFile,
    strict: Annotated[bool, typer.Option("--strict", help="Import nothing if one line is wrong.")] = False,
    json_: Json = False,
) -> None:
    """Add merchants, or replace those that are known.

    Columns: merchant_id, acceptor_id (DE42), name_location (DE43, ASCII), mcc, networks (separated by blanks), and
    optional ones: active (true if left out), name (what people call it, in any script).
    Wrong lines are told by number and skipped; the exit code is then 1.
    """
    settings = load_settings()
    merchants: Sequence[Merchant] = () if strict and read.errors else read.merchants
    if merchants:
        run(_write(settings, merchants))
    if json_:
        errors = [{"line": line, "error": text} for line, text in read.errors.items()]
        print_json({"imported": len(merchants), "errors": errors})
    else:
        for line, text in read.errors.items():
            say(f"line {line}: {text}")
        say(f"{len(merchants)} merchants imported, {len(read.errors)} lines refused.")
    if read.errors:
        raise typer.Exit(ExitCode.FAILED)


@app.command("list")
def list_(
    after: Annotated[str, typer.Option(metavar="MERCHANT", help="Begin behind this id.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Rows at most.")] = 100,
    json_: Json = False,
) -> None:
    """Show merchants by id, a page at a time."""
    settings = load_settings()

    async def read() -> list[Merchant]:
        async with MerchantsView.opened(postgres_dsn(settings)) as merchants:
            return await merchants.page(after=after, limit=limit)

    found = run(read())
    if json_:
        print_json(found)
        return
    columns = ("id", "name", "acceptor", "name and place", "category", "networks", "active")
    rows = [
        (m.merchant_id, m.name, m.acceptor.acceptor_id, m.acceptor.name_location, m.acceptor.mcc, m.networks, m.active)
        for m in found
    ]
    print_table("Merchants", columns, rows)
    if len(found) == limit:
        say(f"More: --after {found[-1].merchant_id}")


async def _write(settings: Settings, merchants: Sequence[Merchant]) -> None:
    async with open_registries(postgres_dsn(settings)) as registries, registries.transaction():
        for begin in range(0, len(merchants), _BATCH):
            await registries.directory.upsert_merchants(merchants[begin : begin + _BATCH])
