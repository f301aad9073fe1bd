"""A consent: one record of purposes, each with its own scope, under one customer and one partner."""

from enum import StrEnum, unique
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

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
    SeoulDate,
    UtcTime,
)

PERIOD_LIMITS_MAX: Final = 16
"""Each limit is a row that every payment under the consent updates; sixteen is more than any product offers."""

Count = Annotated[int, Field(ge=1, le=1_000_000)]
OrgCode = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{10}$", strict=True)]
"""An organisation in MyData: ``org_code``, aN(10)."""
PurposeText = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,300}$", strict=True), NO_CARD_NUMBER]
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


@unique
class PortabilityScope(StrEnum):
    """What of the customer's data may be asked for, in the words of the MyData standard API."""

    CARD_LIST = "card.list"
    """The cards that were paid with, as card ids of the recipient's own."""
    CARD_APPROVAL = "card.approval"
    """Approvals of card payments (카드-008)."""
    PAID_TRANSACTION = "paid.transaction"
    """Transactions of prepaid and electronic payment (전금-103)."""


@unique
class Cycle(StrEnum):
    """How often data is sent: from weekly to monthly."""

    WEEKLY = "1/w"
    FORTNIGHTLY = "2/w"
    MONTHLY = "1/m"


class PortabilityPurpose(Model):
    """Permission to hand the customer's data to recipients that they name (MyData transmission request).

    Attributes:
        recipients: org codes of those who may receive it (``rcv_org_code``).
        scopes: what may be sent; nothing else ever is.
        is_scheduled: True: sent again and again; False: each time it is asked for.
        fnd_cycle: how often basic data is sent: the list of cards; only where ``is_scheduled``.
        add_cycle: how often all that is added is sent: approvals and transactions; only where ``is_scheduled``.
        end_date: the last day, in Asia/Seoul, on which data is sent: at most five years after ``valid_from``.
        purpose: what the recipients may use it for, in words that the customer was shown.
        period: the last day to which recipients may keep it.
        is_consent_merchant_name_regno: merchants' names and business numbers may be sent.
        is_consent_trans_memo: memos may be sent.
        is_consent_trans_category: merchants' categories may be sent.
    """

    recipients: Annotated[tuple[OrgCode, ...], Field(min_length=1, max_length=64)]
    scopes: Annotated[tuple[Annotated[PortabilityScope, Field(strict=False)], ...], Field(min_length=1, max_length=16)]
    is_scheduled: bool = False
    fnd_cycle: Annotated[Cycle, Field(strict=False)] | None = None
    add_cycle: Annotated[Cycle, Field(strict=False)] | None = None
    end_date: SeoulDate
    purpose: PurposeText
    period: SeoulDate
    is_consent_merchant_name_regno: bool = False
    is_consent_trans_memo: bool = False
    is_consent_trans_category: bool = False

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        _each_once(recipients=self.recipients, scopes=self.scopes)
        cycles = (self.fnd_cycle, self.add_cycle)
        if self.is_scheduled and cycles == (None, None):
            raise ValueError("a scheduled transmission needs fnd_cycle or add_cycle")
        if not self.is_scheduled and cycles != (None, None):
            raise ValueError("fnd_cycle and add_cycle go with is_scheduled alone")
        if self.period < self.end_date:
            raise ValueError("period must not lie before end_date: what is sent on the last day is kept, too")
        return self


@unique
class SharingField(StrEnum):
    """What of a payment may be shared with an affiliate: coarse ones first."""

    CATEGORY = "category"
    AMOUNT_BAND = "amount_band"
    MONTH = "month"
    AMOUNT = "amount"
    REGION = "region"
    EXACT_TIME = "exact_time"
    PAYEE = "payee"
    TOKEN = "token"  # noqa: S105 - a word of the vocabulary


class SharingPurpose(Model):
    """Permission to share data with affiliates for named purposes.

    Attributes:
        affiliates: who may receive it.
        purposes: what they may use it for, by name.
        fields: what of a payment they may receive; the policy can allow fewer, never more.
        use_until: first moment at which they may use it no more, and must have erased it.
    """

    affiliates: Annotated[tuple[ScopeName, ...], Field(min_length=1, max_length=64)]
    purposes: Annotated[tuple[ScopeName, ...], Field(min_length=1, max_length=64)]
    fields: Annotated[tuple[Annotated[SharingField, Field(strict=False)], ...], Field(min_length=1, max_length=16)]
    use_until: UtcTime

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        _each_once(affiliates=self.affiliates, purposes=self.purposes, fields=self.fields)
        return self


@unique
class Channel(StrEnum):
    """How an offer reaches a customer."""

    APP = "app"
    EMAIL = "email"
    MESSENGER = "messenger"
    POST = "post"
    PHONE = "phone"
    SMS = "sms"


class MarketingPurpose(Model):
    """Permission to be made offers by affiliates.

    Attributes:
        affiliates: whose offers.
        channels: on which ways they may come.
        until: first moment at which none may be made any more.
    """

    affiliates: Annotated[tuple[ScopeName, ...], Field(min_length=1, max_length=64)]
    channels: Annotated[tuple[Annotated[Channel, Field(strict=False)], ...], Field(min_length=1, max_length=16)]
    until: UtcTime

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        _each_once(affiliates=self.affiliates, channels=self.channels)
        return self


@unique
class Purpose(StrEnum):
    """What a consent permits; each is granted, amended and revoked for itself. Named as its member of the terms."""

    PAYMENT = "payment"
    PORTABILITY = "portability"
    SHARING = "sharing"
    MARKETING = "marketing"


def _in_order(named: tuple[Purpose, ...]) -> tuple[Purpose, ...]:
    if len(set(named)) != len(named):
        raise ValueError("names a purpose twice")
    # One spelling, whatever the order in which they were written: proofs are compared with it.
    return tuple(p for p in Purpose if p in named)


NamedPurposes = Annotated[
    tuple[Annotated[Purpose, Field(strict=False)], ...],
    # Not strict: claims of a proof are read as JSON before they are validated, and have a list here.
    Field(strict=False, min_length=1, max_length=len(Purpose), json_schema_extra={"uniqueItems": True}),
    AfterValidator(_in_order),
]
"""Some of a consent's purposes, each once; their order means nothing."""


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
    marketing: MarketingPurpose | None = None

    @model_validator(mode="after")
    def _has_purpose_and_time(self) -> Self:
        if self.valid_until <= self.valid_from:
            raise ValueError("valid_until must be later than valid_from")
        if not self.purposes:
            raise ValueError(f"a consent needs at least one purpose: {', '.join(Purpose)}")
        return self

    @property
    def purposes(self) -> tuple[Purpose, ...]:
        """The purposes that the terms name."""
        return tuple(p for p in Purpose if getattr(self, p.value) is not None)


def _each_once(**named: tuple[object, ...]) -> None:
    for name, values in named.items():
        if len(set(values)) != len(values):
            raise ValueError(f"{name} names one of them twice")
