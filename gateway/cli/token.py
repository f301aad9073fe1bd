"""``mypay token …``: cards into the vault. A card number comes from a file or standard input, never from arguments."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import Field

from gateway.adapters.crypto.vault import CardSealer, MasterKeys, SealedCard
from gateway.adapters.postgres.registry import open_registry
from gateway.cli.arguments import TokenArgument
from gateway.cli.common import CliError, Json, load_settings, postgres_dsn, print_json, read_input, run, say
from gateway.domain.exchange import CardData
from gateway.settings import Settings
from schemas.codec import decode
from schemas.primitives import FundingToken, Model

app = typer.Typer(help="Funding tokens: the cards behind consents.", no_args_is_help=True)


class _CardFile(Model):
    """``{"pan": "…", "expiry": "YYMM"}``."""

    pan: str = Field(repr=False, pattern=r"^[0-9]{12,19}$")
    expiry: str | None = Field(default=None, repr=False, pattern=r"^[0-9]{2}(0[1-9]|1[0-2])$")


@app.callback()
def _group() -> None:
    # A callback keeps "add" a command of its own while it is the only one.
    pass


@app.command()
def add(
    token: TokenArgument,
    card_file: Annotated[Path, typer.Option(help='{"pan": "…", "expiry": "YYMM"}; - reads standard input.')],
    json_: Json = False,
) -> None:
    """Seal a card under the newest master key and store it behind a token. A token's card never changes."""
    settings = load_settings()
    card = decode(_CardFile, read_input(card_file))
    sealer = CardSealer(MasterKeys.load(settings.master_keys_dir))
    sealed = sealer.seal_card(token, CardData(pan=card.pan, expiry=card.expiry))
    if not run(_put(settings, FundingToken(token), sealed)):
        raise CliError(f"Token {token} is already in use.")
    if json_:
        print_json({"token": token, "key_id": sealed.key_id})
    else:
        say(f"Token {token} stands for a card now, sealed under master key {sealed.key_id}.")


async def _put(settings: Settings, token: FundingToken, sealed: SealedCard) -> bool:
    async with open_registry(postgres_dsn(settings)) as registry:
        return bool(await registry.put_tokens({token: sealed}))
