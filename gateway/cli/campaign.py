"""``mypay campaign …``: joint marketing's campaigns, and what is used of their budgets."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from gateway.app.registries import open_registries
from gateway.app.settings import Settings
from gateway.cli.common import (
    CliError,
    ExitCode,
    Json,
    load_settings,
    money,
    money_json,
    postgres_dsn,
    print_json,
    print_table,
    read_input,
    run,
    say,
    there,
)
from gateway.cli.operating import operated
from gateway.cli.operations import Propose, carry_out
from gateway.marketing.rules.campaign import Campaign
from gateway.views.campaigns import CampaignsView, ToldCampaign
from schemas.codec import DecodeError, decode

app = typer.Typer(no_args_is_help=True)

CampaignArgument = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="The campaign's id.")]


def _read(
    file: Annotated[
        Path, typer.Argument(help="The campaign as JSON; - reads standard input.", dir_okay=False, callback=there)
    ],
) -> Campaign:
    try:
        return decode(Campaign, read_input(file))
    except DecodeError as error:
        raise CliError(f"{file.name}: {error}.", ExitCode.USAGE) from error


@app.command()
@operated("campaign apply", lambda *, file, **_: file.name, reads=_read)
def apply(read: Campaign, propose: Propose = False, json_: Json = False) -> None:
    """Write a campaign, new or instead of what it was, and let it make offers.

    Offers that were made stand as they were made. The budget keeps its currency, and cannot fall below what they hold.
    """
    settings, name = load_settings(), read.campaign_id
    is_new = not run(_all(settings, name))
    payload = {"campaign": read.model_dump(mode="json", exclude_none=True)}
    told, proposed = carry_out(settings, "campaign.apply", name, payload, propose=propose)
    if json_:
        fields = {"campaign_id": name, "is_new": is_new}
        print_json(fields | ({"proposal_id": proposed} if proposed else {}))
    else:
        say(told)


@app.command()
@operated("campaign stop", lambda *, campaign, **_: campaign)
def stop(campaign: CampaignArgument) -> None:
    """Let a campaign make no further offers. Those that were made stand; `apply` lets it go on."""
    if not run(_stop(load_settings(), campaign)):
        raise CliError(f"There is no campaign {campaign}.", ExitCode.NOT_FOUND, hint="`mypay campaign list`")
    say(f"Campaign {campaign} makes no further offers.")


@app.command("list")
def list_(json_: Json = False) -> None:
    """Show every campaign, with what is used of its budget."""
    found = run(_all(load_settings(), None))
    if json_:
        print_json([_told(c) for c in found])
        return
    rows = [
        (
            c.campaign_id,
            c.active,
            f"{c.offers}/{c.budget_offers}",
            *(money(minor, c.currency) for minor in (c.held_minor, c.used_minor, c.budget_minor)),
        )
        for c in found
    ]
    print_table("Campaigns", ("campaign", "active", "offers", "held", "used", "budget"), rows)


@app.command()
def show(campaign: CampaignArgument) -> None:
    """Show one campaign as JSON: as it was written, what is used of its budget, and its offers by state."""
    found = run(_all(load_settings(), campaign))
    if not found:
        raise CliError(f"There is no campaign {campaign}.", ExitCode.NOT_FOUND, hint="`mypay campaign list`")
    told = _told(found[0])
    told["campaign"] = json.loads(found[0].body)
    told["offers_by_state"] = run(_offers(load_settings(), campaign))
    print_json(told)


def _told(campaign: ToldCampaign) -> dict[str, object]:
    return {
        "campaign_id": campaign.campaign_id,
        "active": campaign.active,
        "offers": campaign.offers,
        "offers_max": campaign.budget_offers,
        "held": money_json(campaign.held_minor, campaign.currency),
        "used": money_json(campaign.used_minor, campaign.currency),
        "budget": money_json(campaign.budget_minor, campaign.currency),
        "applied_at": campaign.applied_at,
    }


async def _stop(settings: Settings, campaign_id: str) -> bool:
    async with open_registries(postgres_dsn(settings)) as registries:
        return await registries.campaigns.set_active(campaign_id, active=False)


async def _all(settings: Settings, campaign_id: str | None) -> Sequence[ToldCampaign]:
    async with CampaignsView.opened(postgres_dsn(settings)) as view:
        return await view.all(campaign_id)


async def _offers(settings: Settings, campaign_id: str) -> dict[str, int]:
    async with CampaignsView.opened(postgres_dsn(settings)) as view:
        return await view.offers(campaign_id)
