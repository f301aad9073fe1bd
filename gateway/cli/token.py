"""``mypay token …``: cards into the vault. A card number comes from a file or standard input, never from arguments."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from gateway.adapters.crypto.vault import CardSealer, MasterKeys, SealedCard
from gateway.adapters.postgres.registry import open_registry
from gateway.cli.arguments import TokenArgument
from gateway.cli.common import CliError, Json, load_settings, postgres_dsn, print_json, read_input, run, say
from gateway.cli.operating import operated
from gateway.services.card_files import read_card
from gateway.settings import Settings
from schemas.primitives import FundingToken

app = typer.Typer(help="Funding tokens: the cards behind consents.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    # A callback keeps "add" a command of its own while it is the only one.
    pass


@app.command()
@operated("token add", lambda *, token, **_: token)
def add(
    token: TokenArgument,
    card_file: Annotated[Path, typer.Option(help='{"pan": "…", "expiry": "YYMM"}; - reads standard input.')],
    json_: Json = False,
) -> None:
    """Seal a card under the newest master key and store it behind a token. A token's card never changes."""
    settings = load_settings()
    card = read_card(read_input(card_file), now=datetime.now(UTC))
    sealer = CardSealer(MasterKeys.load(settings.master_keys_dir))
    sealed = sealer.seal_card(token, card)
    if not run(_put(settings, FundingToken(token), sealed)):
        raise CliError(f"Token {token} is already in use.")
    if json_:
        print_json({"token": token, "key_id": sealed.key_id})
    else:
        say(f"Token {token} stands for a card now, sealed under master key {sealed.key_id}.")


async def _put(settings: Settings, token: FundingToken, sealed: SealedCard) -> bool:
    async with open_registry(postgres_dsn(settings)) as registry:
        return bool(await registry.put_tokens({token: sealed}))
