"""``mypay token …``: cards into the vault, and who may pay with them.

A card number comes from a file or standard input, never from arguments, and is never shown again. A token's id is made
here, of random letters: nobody chooses one, and nobody can guess one.
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from gateway.app.registries import open_registries, withdraw_token
from gateway.app.settings import Settings
from gateway.cli.arguments import (
    CustomerOption,
    PartnerOption,
    PartnersOption,
    SomeCustomerOption,
    TokenArgument,
)
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
    shown,
    there,
)
from gateway.cli.operating import operated
from gateway.cli.operations import Propose, carry_out, needs_two
from gateway.directory.card_files import read_card
from gateway.directory.cards import CardSealer, new_token
from gateway.directory.funding import NewToken, OwnedToken, SealedToken
from gateway.network.exchange import CardData
from gateway.sealing.sealing import MasterKeys, Sealed
from gateway.views.tokens import Permission, StoredToken, TokensView
from schemas.codec import DecodeError
from schemas.primitives import ConsentId, CustomerId, FundingToken, PartnerId

app = typer.Typer(no_args_is_help=True)


def _allowed(*, token: str, partner: list[str], **_: Any) -> str:
    return f"{token} {' '.join(partner)}"


def _read(
    card_file: Annotated[
        Path, typer.Option(help='{"pan": "…", "expiry": "YYMM"}; - reads standard input.', callback=there)
    ],
) -> CardData:
    return _card(read_input(card_file))


@app.command()
@operated("token add", lambda *, customer, partner, **_: f"{customer} {' '.join(partner)}", reads=_read)
def add(
    customer: CustomerOption,
    partner: PartnersOption,
    read: CardData,
    propose: Propose = False,
    json_: Json = False,
) -> None:
    """Seal a customer's card under the newest master key and print the new token that stands for it.

    The card belongs to this customer for ever; the partners named may pay with it under the customer's consents. Where
    two people are needed it is stored at once, and the partners may use it when another operator has approved them.
    """
    settings = load_settings()
    owned = OwnedToken(FundingToken(new_token()), CustomerId(customer))
    sealed = CardSealer(MasterKeys.load(settings.master_keys_dir)).seal_card(owned, read)
    partners = tuple(map(PartnerId, partner))
    told, proposed = f"{', '.join(partners)} may pay with it under {customer}'s consents.", None
    if needs_two(settings, propose=propose):
        run(_put(settings, NewToken(*owned, (), sealed)))
        told, proposed = _allow(settings, owned.token, partner, propose=True)
    else:
        run(_put(settings, NewToken(*owned, partners, sealed)))
    if json_:
        fields = {"token": owned.token, "customer_id": customer, "partners": partners, "key_id": sealed.key_id}
        print_json(fields | ({"partners": (), "proposal_id": proposed} if proposed else {}))
    else:
        typer.echo(owned.token)
        say(f"The token is customer {customer}'s. {told}")


def _card(data: bytes) -> CardData:
    """Read a card file.

    Raises:
        CliError: it is none. With a colon behind the field, the first word after it would be taken for a card's number.
    """
    try:
        return read_card(data, now=datetime.now(UTC))
    except DecodeError as error:
        where = f"{error.field} (of the card): " if error.field else ""
        raise CliError(f"{where}{error.problem}.") from None


@app.command()
@operated("token allow", _allowed)
def allow(token: TokenArgument, partner: PartnersOption, propose: Propose = False, json_: Json = False) -> None:
    """Let partners pay with a token under its customer's consents. The customer has asked for this."""
    settings = load_settings()

    _owned(run(_find(settings, token)))
    told, proposed = _allow(settings, FundingToken(token), partner, propose=propose)
    if proposed is None:
        _told(run(_find(settings, token)), json_=json_)
    elif json_:
        print_json({"token": token, "proposal_id": proposed})
    else:
        say(told)


@app.command()
@operated("token disallow", lambda *, token, partner, **_: f"{token} {partner}")
def disallow(token: TokenArgument, partner: PartnerOption, json_: Json = False) -> None:
    """Let a partner pay with a token no longer: once this returns, no further payment of this kind can begin.

    What had begun before leaves within two seconds, or not at all.
    """
    settings = load_settings()

    async def write() -> list[ConsentId] | None:
        await _find(settings, token)
        dsn, now = postgres_dsn(settings), datetime.now(UTC)
        return await withdraw_token(dsn, FundingToken(token), PartnerId(partner), now=now)

    consents = run(write())
    if consents is None:
        raise CliError(f"Partner {partner} may not use token {token}.", ExitCode.NOT_FOUND)
    if json_:
        print_json({"token": token, "partner_id": partner, "consents": consents})
        return
    say(f"Partner {partner} may pay with token {token} no longer.")
    if consents:
        say(f"Payments under these consents are refused from now on: {', '.join(consents)}")


@app.command()
@operated("token assign", lambda *, token, customer, **_: f"{token} {customer}")
def assign(
    token: TokenArgument,
    customer: CustomerOption,
    partner: PartnersOption,
    propose: Propose = False,
    json_: Json = False,
) -> None:
    """Give a token from before tokens had owners its customer: seals the card anew, bound to both.

    Where two people are needed it has its customer at once, and the partners may use it when another operator has
    approved them.
    """
    settings = load_settings()
    waits = needs_two(settings, propose=propose)
    sealer = CardSealer(MasterKeys.load(settings.master_keys_dir))
    now = datetime.now(UTC)

    async def write() -> StoredToken:
        async with open_registries(postgres_dsn(settings)) as registries, registries.transaction():
            was = await registries.tokens.sealed(FundingToken(token))
            if was is None:
                raise _missing(token)
            sealed = _sealed_for(sealer, was, CustomerId(customer))
            if sealed is None or not await registries.tokens.assign(was, CustomerId(customer), sealed, now=now):
                raise CliError(f"Token {token} has an owner already, and keeps it.")
            if not waits:
                await registries.tokens.allow([(FundingToken(token), PartnerId(p)) for p in partner], now=now)
        return await _find(settings, token)

    assigned = run(write())
    if not waits:
        _told(assigned, json_=json_)
        return
    told, proposed = _allow(settings, assigned.token, partner, propose=True)
    if json_:
        print_json({**asdict(assigned), "proposal_id": proposed})
    else:
        say(f"Token {token} is customer {customer}'s. {told}")


@app.command()
def show(token: TokenArgument, json_: Json = False) -> None:
    """Show whose a token is and who may use it; nothing of its card."""
    settings = load_settings()

    async def read() -> tuple[StoredToken, list[Permission]]:
        async with TokensView.opened(postgres_dsn(settings)) as tokens:
            found = _one(token, await tokens.find(token=FundingToken(token)))
            return found, await tokens.permissions(found.token)

    found, permissions = run(read())
    if json_:
        print_json({**asdict(found), "permissions": permissions})
        return
    rows = [
        ("customer", found.customer_id or _NOBODY),
        *((f"partner {p.partner_id}", _since(p)) for p in permissions),
        ("sealed under", f"{found.key_id}, {shown(found.sealed_at)}"),
        ("since", found.created_at),
    ]
    print_table(f"Token {found.token}", ("", ""), rows)


@app.command("list")
def list_(
    customer: SomeCustomerOption = None,
    unowned: Annotated[bool, typer.Option("--unowned", help="Those without an owner, which are refused.")] = False,
    after: Annotated[str, typer.Option(help="Begin behind this token.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Rows at most.")] = 100,
    json_: Json = False,
) -> None:
    """Show tokens, whose they are and who may use them."""
    settings = load_settings()

    async def read() -> list[StoredToken]:
        async with TokensView.opened(postgres_dsn(settings)) as tokens:
            owner = CustomerId(customer) if customer else None
            return await tokens.find(customer_id=owner, unowned=unowned, after=after, limit=limit)

    found = run(read())
    if json_:
        print_json(found)
        return
    rows = [(t.token, t.customer_id or _NOBODY, ", ".join(t.partners), t.key_id, t.created_at) for t in found]
    print_table("Tokens", ("token", "customer", "partners", "sealed under", "since"), rows, whole=("token",))
    if len(found) == limit:
        say(f"More: --after {found[-1].token}")


_NOBODY = "nobody: `mypay token assign`"


def _allow(settings: Settings, token: FundingToken, partners: list[str], *, propose: bool) -> tuple[str, UUID | None]:
    payload = {"token": token, "partners": partners}
    return carry_out(settings, "token.allow", f"{token} {' '.join(partners)}", payload, propose=propose)


async def _find(settings: Settings, token: str) -> StoredToken:
    async with TokensView.opened(postgres_dsn(settings)) as tokens:
        return _one(token, await tokens.find(token=FundingToken(token)))


async def _put(settings: Settings, token: NewToken) -> None:
    async with open_registries(postgres_dsn(settings)) as registries:
        if not await registries.tokens.put([token], now=datetime.now(UTC)):
            raise AssertionError("a token of 28 random letters is there already")


def _sealed_for(sealer: CardSealer, was: SealedToken, customer_id: CustomerId) -> Sealed | None:
    """The card behind a token without owner, sealed for one; None where it has one."""
    if was.customer_id is not None:
        return None
    card = sealer.open_unowned_card(was.token, Sealed(was.key_id, was.nonce, was.ciphertext))
    return sealer.seal_card(OwnedToken(was.token, customer_id), card)


def _missing(token: str) -> CliError:
    return CliError(f"There is no token {token}.", ExitCode.NOT_FOUND, hint="`mypay token list` shows them.")


def _one(token: str, found: Sequence[StoredToken]) -> StoredToken:
    if not found:
        raise _missing(token)
    return found[0]


def _owned(token: StoredToken) -> None:
    if token.customer_id is None:
        raise CliError(f"Token {token.token} has no owner.", hint="`mypay token assign` gives it one.")


def _since(permission: Permission) -> str:
    if permission.withdrawn_at is None:
        return f"since {shown(permission.allowed_at)}"
    return f"withdrawn {shown(permission.withdrawn_at)}"


def _told(token: StoredToken, *, json_: bool) -> None:
    if json_:
        print_json(token)
    else:
        say(f"Token {token.token} is customer {token.customer_id}'s; {', '.join(token.partners)} may pay with it.")
