"""``mypay sharing …``: what was shared with affiliates, and what an affiliate can check of it."""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from gateway.app.hurrying import remind as send_again
from gateway.app.registries import open_registries
from gateway.cli.affiliate import affiliate_id
from gateway.cli.common import (
    CliError,
    ExitCode,
    Json,
    load_settings,
    postgres_dsn,
    print_json,
    print_table,
    read_input,
    run,
    say,
    say_if_cut,
    shown,
)
from gateway.cli.legible import legible
from gateway.cli.operating import current_actor, operated
from gateway.cli.operations import told
from gateway.cli.registered import of_affiliate, of_consent
from gateway.database.roles import Role
from gateway.sharing.verifying import verify_shares
from gateway.views.affiliates import AffiliatesView, ToldHolder
from schemas.codec import encode_json, parse_strictly

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_(
    affiliate: Annotated[str | None, typer.Option(parser=affiliate_id, metavar="AFFILIATE", help="Its alone.")] = None,
    consent: Annotated[str | None, typer.Option(help="Under this consent alone.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Rows at most.")] = 100,
    json_: Json = False,
) -> None:
    """Show who holds shares under which consent, who must erase them, and who has."""
    settings = load_settings()

    async def read() -> list[ToldHolder]:
        dsn = postgres_dsn(settings, Role.READONLY)
        async with AffiliatesView.opened(dsn) as view:
            found = await view.holders(affiliate_id=affiliate, consent_id=consent, limit=limit)
        return await of_consent(dsn, consent, await of_affiliate(dsn, affiliate, found))

    found = run(read())
    say_if_cut(found, limit)
    if json_:
        print_json(found)
        return
    columns = ("affiliate", "partner", "consent", "shares", "erase notice", "erase by", "confirmed")
    # On which day is enough here; --json has the moments.
    days = [tuple(at and shown(at)[:10] for at in (h.erase_by, h.confirmed_at)) for h in found]
    rows = [
        (h.affiliate_id, h.partner_id, h.consent_id, h.shares, h.notice_id, *at)
        for h, at in zip(found, days, strict=True)
    ]
    print_table("Shares", columns, rows, right=("shares",), whole=("erase notice", "erase by", "confirmed"))


@app.command()
@operated("sharing erased", lambda *, notice, **_: str(notice))
def erased(
    notice: Annotated[UUID, typer.Argument(metavar="NOTICE", help="The erase notice's id.")], json_: Json = False
) -> None:
    """Take an erasure as confirmed that its affiliate can sign no more: it has told so in another way.

    Say in --why how. The notice is overdue no longer.
    """

    async def write() -> tuple[str, datetime] | None:
        async with open_registries(postgres_dsn(load_settings())) as registries:
            by = current_actor().operator
            return await registries.affiliates.note_erased(notice, by, now=datetime.now(UTC))

    found = run(write())
    if found is None:
        raise CliError(f"There is no erase notice {notice}.", ExitCode.NOT_FOUND)
    affiliate, since = found
    if json_:
        print_json({"notice_id": notice, "affiliate_id": affiliate, "confirmed_at": since})
    else:
        say(f"The erasure of {affiliate} counts as confirmed since {since:%Y-%m-%d %H:%M:%S} UTC.")


@app.command()
@operated("sharing remind", lambda *, notice, **_: str(notice))
def remind(notice: Annotated[UUID, typer.Argument(metavar="NOTICE", help="The erase notice's id.")]) -> None:
    """Let an affiliate that has not confirmed that it erased be sent its notice again, as an event of its own."""
    say(told(send_again(postgres_dsn(load_settings()), notice)))


@app.command()
@operated("sharing retire", lambda **_: "sharing")
def retire() -> None:
    """Say that the stage runs nowhere any more: events are kept for it no longer.

    Stop it first: one that runs lets them be kept again. What is settled until it runs again may never be shared. Erase
    notices are sent then: what was shared is kept.
    """

    async def write() -> bool:
        async with open_registries(postgres_dsn(load_settings())) as registries:
            return await registries.affiliates.retire()

    if run(write()):
        say("No events are kept for sharing any more, unless the stage still runs: it lets them be kept again.")
    else:
        say("No events were kept for sharing.")


@app.command()
def verify(
    affiliate: Annotated[str, typer.Argument(parser=affiliate_id, metavar="AFFILIATE", help="Whose shares these are.")],
    file: Annotated[Path, typer.Argument(help="One event a line: type and body; - reads standard input.")],
    key: Annotated[list[str] | None, typer.Option("--key-id", help="A key id that names may be made with.")] = None,
    json_: Json = False,
) -> None:
    """Check what an affiliate was sent: its form, its order, and what must be erased by now. Needs no gateway.

    A line is a JSON object with `type` (`ce_type`) and `body` (the record's value, as JSON or base64).
    """
    found = verify_shares(
        affiliate,
        _events(read_input(file)),
        now=datetime.now(UTC),
        key_ids=frozenset(key) if key else None,
    )
    if json_:
        print_json(found)
    else:
        for problem in found.problems:
            typer.echo(legible(problem))
        for reference, payments in sorted(found.to_erase.items()):
            typer.echo(legible(f"erase {reference}: {payments} payments"))
        say(f"{found.shares} shares and {found.notices} erase notices; {len(found.problems)} problems.")
    if found.problems:
        raise typer.Exit(ExitCode.FAILED)


def _events(text: bytes) -> Iterator[tuple[str, str, bytes]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            event = parse_strictly(line)
            body = event["body"]
            value = base64.b64decode(body, validate=True) if isinstance(body, str) else encode_json(body)
            yield f"line {number}", str(event["type"]), value
        except (ValueError, KeyError, TypeError):
            raise CliError(f"Line {number} is no JSON object with type and body.", ExitCode.USAGE) from None
