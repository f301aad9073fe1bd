"""``mypay campaign …``: joint marketing's campaigns, and what is used of their budgets."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
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
)
from gateway.cli.operating import operated
from gateway.marketing.rules.campaign import Campaign, CampaignRefusedError
from gateway.views.campaigns import CampaignsView, ToldCampaign
from schemas.codec import DecodeError, decode

app = typer.Typer(help="Campaigns of joint marketing.", no_args_is_help=True)

CampaignArgument = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="The campaign's id.")]


@app.command()
@operated("campaign apply", lambda *, file, **_: file.name)
def apply(
    file: Annotated[Path, typer.Argument(help="The campaign as JSON; - reads standard input.", dir_okay=False)],
    json_: Json = False,
) -> None:
    """Write a campaign, new or instead of what it was, and let it make offers.

    Offers that were made stand as they were made. The budget keeps its currency, and cannot fall below what they hold.
    """
    try:
        campaign: Campaign = decode(Campaign, read_input(file))
    except DecodeError as error:
        raise CliError(f"{file.name}: {error}.", ExitCode.USAGE) from error
    is_new = run(_apply(load_settings(), campaign))
    if json_:
        print_json({"campaign_id": campaign.campaign_id, "is_new": is_new})
    else:
        say(f"Campaign {campaign.campaign_id} is {'new' if is_new else 'changed'}, and makes offers.")


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


async def _apply(settings: Settings, campaign: Campaign) -> bool:
    async with open_registries(postgres_dsn(settings)) as registries:
        try:
            return await registries.campaigns.apply(campaign, now=datetime.now(UTC))
        except CampaignRefusedError as error:
            raise CliError(f"{error}.") from error


async def _stop(settings: Settings, campaign_id: str) -> bool:
    async with open_registries(postgres_dsn(settings)) as registries:
        return await registries.campaigns.set_active(campaign_id, active=False)


async def _all(settings: Settings, campaign_id: str | None) -> Sequence[ToldCampaign]:
    async with CampaignsView.opened(postgres_dsn(settings)) as view:
        return await view.all(campaign_id)


async def _offers(settings: Settings, campaign_id: str) -> dict[str, int]:
    async with CampaignsView.opened(postgres_dsn(settings)) as view:
        return await view.offers(campaign_id)
