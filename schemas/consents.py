"""A consent: one record of purposes, each with its own scope, under one customer and one partner."""

from enum import StrEnum, unique
from typing import Annotated, Final, Self

from pydantic import Field, StringConstraints, model_validator

from schemas.primitives import (
    NO_CARD_NUMBER,
    ConsentIdField,
    CustomerIdField,
    FundingTokenField,
    MerchantCategoryCode,
    MerchantIdField,
    Model,
    Money,
    PartnerIdField,
    UtcTime,
)

PERIOD_LIMITS_MAX: Final = 16
"""Each limit is a row that every payment under the consent updates; sixteen is more than any product offers."""

Count = Annotated[int, Field(ge=1, le=1_000_000)]
ScopeName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$", strict=True), NO_CARD_NUMBER]


@unique
class ConsentStatus(StrEnum):
    """Life of a consent: ``AWAU → AUTH → SUSP ⇄ AUTH → CANC | EXPD``, ``AWAU → RJCT``."""

    AWAU = "AWAU"  # awaiting the customer's authorisation
    AUTH = "AUTH"  # authorised: the only state under which anything may be done
    SUSP = "SUSP"  # suspended
    RJCT = "RJCT"  # rejected by the customer
    CANC = "CANC"  # revoked
    EXPD = "EXPD"  # past its end


@unique
class Period(StrEnum):
    """Length of a limit's window."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


@unique
class Alignment(StrEnum):
    """Where windows begin: at the consent's own start, or with the calendar of Asia/Seoul (weeks on Monday)."""

    CONSENT = "consent"
    CALENDAR = "calendar"


class PeriodLimit(Model):
    """A cap on what is paid within each window of a period.

    Attributes:
        max_amount: cap on the sum, in that currency alone; or None.
        max_count: cap on the number of payments, in any currency; or None.
    """

    period: Period
    alignment: Alignment = Alignment.CALENDAR
    max_amount: Money | None = None
    max_count: Count | None = None

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if (self.max_amount is None) == (self.max_count is None):
            raise ValueError("a period limit has exactly one of max_amount and max_count")
        return self

    @property
    def key(self) -> str:
        """The limit's name, unique within a consent: ``month/calendar/KRW`` or ``day/consent/count``."""
        unit = self.max_amount.currency if self.max_amount else "count"
        return f"{self.period}/{self.alignment}/{unit}"


class LowValueExemption(Model):
    """Payments that need no fresh authentication: small ones, up to a number and a sum between two authentications."""

    max_amount: Money
    max_count: Count
    max_sum: Money

    @model_validator(mode="after")
    def _one_currency(self) -> Self:
        if self.max_amount.currency != self.max_sum.currency:
            raise ValueError("max_amount and max_sum must share one currency")
        return self


class Payees(Model):
    """Whom the customer allows to be paid. Block wins over allow; with both allow lists empty anyone may be paid."""

    allow_merchants: tuple[MerchantIdField, ...] = ()
    allow_categories: tuple[MerchantCategoryCode, ...] = ()
    block_merchants: tuple[MerchantIdField, ...] = ()
    block_categories: tuple[MerchantCategoryCode, ...] = ()


class PaymentPurpose(Model):
    """Permission to pay.

    Attributes:
        funding_token: which card or account pays; the card number itself is known to the vault alone.
        max_per_payment: one cap per allowed currency; a currency that is not listed is not allowed.
        period_limits: any number, all enforced.
        lifetime_amounts: caps on everything ever paid, one per currency; lifetime_count: likewise the number.
        single_use: True: one payment in all. A declined or reversed one gives the use back.
    """

    funding_token: FundingTokenField
    payees: Payees = Payees()
    max_per_payment: Annotated[tuple[Money, ...], Field(min_length=1, max_length=8)]
    period_limits: Annotated[tuple[PeriodLimit, ...], Field(max_length=PERIOD_LIMITS_MAX)] = ()
    lifetime_amounts: Annotated[tuple[Money, ...], Field(max_length=8)] = ()
    lifetime_count: Count | None = None
    single_use: bool = False
    low_value_exemption: LowValueExemption | None = None

    @model_validator(mode="after")
    def _each_limit_once(self) -> Self:
        for name, keys in (
            ("max_per_payment", [m.currency for m in self.max_per_payment]),
            ("lifetime_amounts", [m.currency for m in self.lifetime_amounts]),
            ("period_limits", [p.key for p in self.period_limits]),
        ):
            if len(set(keys)) != len(keys):
                raise ValueError(f"{name} names the same limit twice")
        return self


class PortabilityPurpose(Model):
    """Permission to hand the customer's data to recipients they name (MyData)."""

    recipients: Annotated[tuple[ScopeName, ...], Field(min_length=1, max_length=64)]
    data_sets: Annotated[tuple[ScopeName, ...], Field(min_length=1, max_length=64)]


class SharingPurpose(Model):
    """Permission to share data with affiliates for named purposes."""

    affiliates: Annotated[tuple[ScopeName, ...], Field(min_length=1, max_length=64)]
    purposes: Annotated[tuple[ScopeName, ...], Field(min_length=1, max_length=64)]


class ConsentTerms(Model):
    """Everything the customer agrees to; immutable. A change is a new version that is agreed to again.

    Attributes:
        valid_from: first moment at which anything may be done; consent-aligned windows begin here.
        valid_until: first moment at which nothing may be done any more.
    """

    consent_id: ConsentIdField
    partner_id: PartnerIdField
    customer_id: CustomerIdField
    valid_from: UtcTime
    valid_until: UtcTime
    payment: PaymentPurpose | None = None
    portability: PortabilityPurpose | None = None
    sharing: SharingPurpose | None = None

    @model_validator(mode="after")
    def _has_purpose_and_time(self) -> Self:
        if self.valid_until <= self.valid_from:
            raise ValueError("valid_until must be later than valid_from")
        if not (self.payment or self.portability or self.sharing):
            raise ValueError("a consent needs at least one purpose: payment, portability or sharing")
        return self
