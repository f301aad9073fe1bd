"""``mypay prove seed``: a database that has grown, to measure on."""

from typing import Annotated

import typer


def command(
    dsn: Annotated[
        str, typer.Option(help="The database, as a superuser: one of its own, with nobody's payments in it.")
    ],
    payments: Annotated[int, typer.Option(min=1, help="How many to add.")] = 1_000_000,
    first: Annotated[int, typer.Option(min=1, help="Number of the first one: others than are there already.")] = 1,
    with_events: Annotated[
        int | None, typer.Option(min=0, help="How many of them, the youngest, have events in the outbox: all.")
    ] = None,
) -> None:
    """Fill a database of one's own with settled payments of the past: with ledger, clearing, events, used windows.

    Nothing in it was ever ordered: it shows how statements do on a grown database, and its books do not add up.
    """
    from gateway.cli.common import CliError, run  # noqa: PLC0415 - only this command needs these
    from gateway.database.migrate import migrate  # noqa: PLC0415
    from gateway.proving.seeding import NotOurDatabaseError, refuse_anothers, seed  # noqa: PLC0415

    try:
        run(refuse_anothers(dsn))
    except NotOurDatabaseError as error:
        text = str(error)
        raise CliError(f"{text[0].upper()}{text[1:]}.") from None
    run(migrate(dsn))
    run(seed(dsn, payments, first=first, with_events=with_events))
    typer.echo(f"seed: payments={payments} first={first}")
