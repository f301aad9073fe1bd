"""A campaign as operators write it, and as it stands: configuration, and what is used of its budget."""

from typing import Annotated, Self

from msgspec import Struct
from pydantic import Field, model_validator

from schemas.consents import Channel, ScopeName
from schemas.marketing import Region
from schemas.primitives import MerchantCategoryCode, Model, Money, UtcTime

Days = Annotated[int, Field(ge=1, le=366)]
Number = Annotated[int, Field(ge=1, le=100_000_000)]


class CampaignRefusedError(Exception):
    """A campaign cannot be changed so: the message says why."""


class Segment(Model):
    """Whom a campaign is for, told by settled payments of the last days under a consent with marketing.

    Attributes:
        categories, regions: of the payments that count; empty: any.
        payments_min, payments_max: how many of them, between both; amount_min, amount_max: likewise their sum, in one
            currency, in which alone payments count.
    """

    days: Days
    categories: tuple[MerchantCategoryCode, ...] = ()
    regions: tuple[Region, ...] = ()
    payments_min: Number = 1
    payments_max: Number | None = None
    amount_min: Money
    amount_max: Money | None = None

    @model_validator(mode="after")
    def _bands(self) -> Self:
        if self.payments_max is not None and self.payments_max < self.payments_min:
            raise ValueError("payments_max must not lie below payments_min")
        if self.amount_max is not None:
            if self.amount_max.currency != self.amount_min.currency:
                raise ValueError("amount_min and amount_max must share one currency")
            if self.amount_max.minor < self.amount_min.minor:
                raise ValueError("amount_max must not lie below amount_min")
        return self


class Frequency(Model):
    """A customer gets no offer of the campaign while so many of the last days' offers, of any campaign, were theirs."""

    offers: Annotated[int, Field(ge=1, le=1000)]
    days: Days


class Budget(Model):
    """What a campaign may cost: so much money, in so many offers. An offer takes all that it may cost until it ends."""

    amount: Money
    offers: Number


class Campaign(Model):
    """A joint campaign.

    Attributes:
        financial, telecom: affiliates of both groups that make its offers: a customer's offer is of the first of them
            that the customer's consent names.
        worth: the most that one use of an offer may cost; uses_max: how often a customer may use it.
        valid_days: how long an offer can be used.
        exclusive_group: a customer gets one offer, ever, of all the campaigns that name the same one.
    """

    campaign_id: ScopeName
    financial: Annotated[tuple[ScopeName, ...], Field(min_length=1, max_length=64)]
    telecom: Annotated[tuple[ScopeName, ...], Field(min_length=1, max_length=64)]
    channels: Annotated[tuple[Annotated[Channel, Field(strict=False)], ...], Field(min_length=1, max_length=16)]
    begins_at: UtcTime
    ends_at: UtcTime
    segment: Segment
    worth: Money
    uses_max: Annotated[int, Field(ge=1, le=1000)] = 1
    valid_days: Days
    budget: Budget
    frequency: Frequency
    exclusive_group: ScopeName | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.ends_at <= self.begins_at:
            raise ValueError("ends_at must be later than begins_at")
        if self.worth.currency != self.budget.amount.currency:
            raise ValueError("worth and budget.amount must share one currency")
        if self.worth.minor * self.uses_max > self.budget.amount.minor:
            raise ValueError("budget.amount must pay for one offer at least: worth times uses_max")
        named = (*self.financial, *self.telecom)
        if len(set(named)) != len(named):
            raise ValueError("financial and telecom name an affiliate twice")
        return self

    @property
    def affiliates(self) -> tuple[str, ...]:
        """Of both groups, in the order in which they come to make an offer."""
        return (*self.financial, *self.telecom)

    @property
    def offer_cost(self) -> int:
        """All that one offer may cost, in the minor unit."""
        return self.worth.minor * self.uses_max


class CampaignRow(Struct, frozen=True, gc=False):
    """A campaign as it stands.

    Attributes:
        offers: granted and not given back; held_minor: what open offers may still cost; used_minor: what uses have.
    """

    campaign: Campaign
    active: bool = True
    offers: int = 0
    held_minor: int = 0
    used_minor: int = 0

    @property
    def campaign_id(self) -> str:
        """Its name."""
        return self.campaign.campaign_id
