"""``mypay customer …``: what was used and provided of a customer, with proofs."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway.base.calendar import SEOUL
from gateway.cli.arguments import in_utc
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
    say_if_cut,
)
from gateway.database.roles import Role
from gateway.disclosure.rules.entry import Entry
from gateway.disclosure.rules.notices import YEAR
from gateway.disclosure.rules.proof import proven, told_use
from gateway.sealing.files import write_secret_file
from gateway.views.disclosures import DisclosuresView, ToldNotice
from schemas.codec import encode
from schemas.disclosure import DisclosureProof
from schemas.primitives import CustomerId, PartnerId

app = typer.Typer(no_args_is_help=True)

YEARS: Final = timedelta(days=3 * 366)
"""Customers may see three years; what is older is destroyed."""

_DAY: Final = "day (of Asia/Seoul, or a moment with its offset)"


@app.callback()
def _customer() -> None:
    """What was used and provided of a customer."""


@app.command()
def disclosures(
    customer: Annotated[str, typer.Argument(metavar="CUSTOMER")],
    since: Annotated[
        datetime | None, typer.Option("--from", metavar="DAY", help=f"From this {_DAY}; else 3 years.")
    ] = None,
    until: Annotated[datetime | None, typer.Option("--to", metavar="DAY", help=f"Until before this {_DAY}.")] = None,
    partner: Annotated[str | None, typer.Option("--partner", help="Under this partner's consents alone.")] = None,
    proofs: Annotated[
        Path | None,
        typer.Option("--proofs", metavar="FILE", help="Write them with proofs into this new file (0600)."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="Disclosures at most, the oldest first.")] = 100_000,
    json_: Json = False,
) -> None:
    """List every use of a customer's consents: what, to whom, why, when, under which consent and version."""
    now = datetime.now(UTC)
    first = in_utc(since, unless_told=SEOUL) if since else now - YEARS
    last = in_utc(until, unless_told=SEOUL) if until else now
    if since and first >= last:
        raise CliError(f"--from must be before {'--to' if until else 'now'}.", ExitCode.USAGE)

    async def read() -> tuple[list[Entry], DisclosureProof | None]:
        async with DisclosuresView.opened(postgres_dsn(load_settings(), Role.READONLY)) as view:
            found = await view.of_customer(customer, since=first, until=last, partner_id=partner, limit=limit)
            if proofs is None:
                return found, None
            placed, roots = await view.proofs(found)
            proof = DisclosureProof.of_stored(
                customer_id=customer,
                since=first,
                until=last,
                disclosures=tuple(proven(p) for p in placed),
                roots=tuple(roots),
            )
            return found, proof

    found, proof = run(read())
    say_if_cut(found, limit)
    if proofs is not None and proof is not None:
        write_secret_file(proofs, encode(proof))
    show_uses(f"Disclosures of {customer}", found, json_=json_)
    if proofs is not None and not json_:
        say(f"Proofs are in {proofs}: `mypay audit check-proof {proofs}` checks them without a database.")


@app.command()
def notice(
    customer: Annotated[str, typer.Argument(metavar="CUSTOMER")],
    partner: Annotated[str | None, typer.Option("--partner", help="Of this partner's consents alone.")] = None,
    until: Annotated[
        datetime | None, typer.Option("--to", metavar="DAY", help=f"Of the year before this {_DAY}; else before now.")
    ] = None,
    json_: Json = False,
) -> None:
    """Show a customer's notice of a year: how often what was used and provided of theirs, to whom and why.

    A partner is told the same once a year, as `kr.mypay.disclosure.notice.v1`, and brings it to its customer.
    """
    last = in_utc(until, unless_told=SEOUL) if until else datetime.now(UTC)

    async def read() -> list[ToldNotice]:
        async with DisclosuresView.opened(postgres_dsn(load_settings(), Role.READONLY)) as view:
            whom, of = CustomerId(customer), None if partner is None else PartnerId(partner)
            return await view.notices(whom, since=last - YEAR, until=last, partner_id=of)

    found = run(read())
    if json_:
        print_json([{**n.notice.model_dump(mode="json"), "next_at": n.next_at} for n in found])
        return
    rows = [
        (n.notice.partner_id, d.recipient, d.kind, d.purpose, d.count, n.next_at)
        for n in found
        for d in n.notice.disclosed
    ]
    columns = ("partner", "to whom", "what", "why", "times", "next notice")
    begin, end = ((last - ago).astimezone(SEOUL) for ago in (YEAR, timedelta()))
    print_table(f"Notice of {customer} from {begin:%Y-%m-%d} to {end:%Y-%m-%d}", columns, rows, right=("times",))


def show_uses(title: str, entries: Sequence[Entry], *, json_: bool) -> None:
    """Print uses, for people or programs."""
    if json_:
        print_json([{"seq": e.seq, **told_use(e.use).model_dump(mode="json", exclude_none=True)} for e in entries])
        return
    rows = [
        (
            e.seq,
            e.use.occurred_at,
            f"{e.use.kind}\n{e.use.what}",
            e.use.recipient,
            f"{e.use.purpose}\n({e.use.legal_basis})",
            f"{e.use.consent_id} v{e.use.consent_version}\n{e.use.partner_id}",
            e.use.reference,
        )
        for e in entries
    ]
    print_table(title, ("entry", "when", "what", "to whom", "why", "consent", "reference"), rows)
