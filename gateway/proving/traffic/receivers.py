"""Who is given customers' data in a run: a recipient, an affiliate of each group, and what customers let them have.

Beside what they pay, customers of a run with receivers agree to have their data handed to the recipient, shared with
affiliates, and to be made offers: some to all of it, some to a part, some to nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from joserfc.jwk import ECKey

from gateway.base.calendar import day_of
from gateway.client import Signer
from gateway.directory.partners import HomeGroup
from gateway.identity.jose.jwk import PrivateKey, generate_key
from gateway.marketing.rules.campaign import Budget, Campaign, Frequency, Segment
from schemas.consents import (
    Channel,
    ConsentTerms,
    MarketingPurpose,
    PortabilityPurpose,
    PortabilityScope,
    SharingField,
    SharingPurpose,
)
from schemas.primitives import Money
from schemas.sharing import SharingUse

SENDER: Final = "MYPAY00000"
"""The gateway's own org code, as its settings have it."""

RECIPIENT: Final = "B2BBBB0000"
FINANCIAL: Final = "hanbit-insurance"
TELECOM: Final = "narae-mobility"
PURPOSE: Final = "household accounts"

SHARED: Final = (
    SharingField.CATEGORY,
    SharingField.AMOUNT_BAND,
    SharingField.MONTH,
    SharingField.AMOUNT,
)
"""What customers of a run let affiliates have; each use may see a part of it."""

_DAYS: Final = 200


@dataclass(frozen=True, slots=True)
class Recipient:
    """A recipient with the key that data is encrypted to."""

    org_code: str
    name: str
    kid: str
    private_key: Any = field(repr=False)

    @property
    def jwk(self) -> Mapping[str, Any]:
        """The public half, as it is registered."""
        public: Mapping[str, Any] = self.private_key.as_dict(private=False)
        return public


@dataclass(frozen=True, slots=True)
class Affiliate:
    """An affiliate with its signing key, and the one use that is approved for it."""

    affiliate_id: str
    name: str
    home_group: HomeGroup
    use: SharingUse
    legal_basis: str
    private_key: PrivateKey = field(repr=False)
    jwk: Mapping[str, Any] = field(repr=False)

    @property
    def kid(self) -> str:
        """The registered key's id."""
        return f"{self.affiliate_id}-2026-1"

    @property
    def signer(self) -> Signer:
        """What it signs with."""
        return Signer(self.private_key, self.kid)


@dataclass(frozen=True, slots=True)
class Receivers:
    """Everybody who is given something."""

    recipient: Recipient
    affiliates: tuple[Affiliate, ...]

    def affiliate(self, affiliate_id: str) -> Affiliate:
        """The affiliate with that id."""
        return next(a for a in self.affiliates if a.affiliate_id == affiliate_id)


class Agreed(NamedTuple):
    """What a customer lets whom have."""

    portability: bool
    sharing: tuple[str, ...]
    marketing: tuple[str, ...]


ALL: Final = Agreed(portability=True, sharing=(FINANCIAL, TELECOM), marketing=(FINANCIAL, TELECOM))
KINDS_OF_AGREEMENT: Final = (
    ALL,
    Agreed(portability=False, sharing=(FINANCIAL,), marketing=(FINANCIAL,)),
    Agreed(portability=True, sharing=(), marketing=(TELECOM,)),
    Agreed(portability=False, sharing=(), marketing=()),
)
"""Customers have one of these in turn."""


def make_receivers() -> Receivers:
    """A recipient and two affiliates, each with a fresh key."""
    key = ECKey.generate_key("P-256")
    return Receivers(
        Recipient(RECIPIENT, "Dure Ledger", f"{RECIPIENT}-2026-1", key),
        (
            _affiliate(FINANCIAL, "Hanbit Insurance", "financial", SharingUse.CREDIT_ASSESSMENT),
            _affiliate(TELECOM, "Narae Mobility", "telecom", SharingUse.LOYALTY),
        ),
    )


def _affiliate(affiliate_id: str, name: str, group: HomeGroup, use: SharingUse) -> Affiliate:
    private, jwk = generate_key("ES256")
    return Affiliate(affiliate_id, name, group, use, "the customer's consent", private, jwk)


def agreeing(terms: ConsentTerms, agreed: Agreed, now: datetime) -> ConsentTerms:
    """The terms with what the customer agrees to besides."""
    last, until = day_of(now) + timedelta(days=_DAYS), now + timedelta(days=_DAYS)
    purposes: dict[str, Any] = {}
    if agreed.portability:
        purposes["portability"] = PortabilityPurpose(
            recipients=(RECIPIENT,),
            scopes=tuple(PortabilityScope),
            end_date=last,
            purpose=PURPOSE,
            period=last,
            is_consent_merchant_name_regno=True,
            is_consent_trans_category=True,
        )
    if agreed.sharing:
        purposes["sharing"] = SharingPurpose(
            affiliates=agreed.sharing,
            purposes=tuple(u.value for u in (SharingUse.CREDIT_ASSESSMENT, SharingUse.LOYALTY)),
            fields=SHARED,
            use_until=until,
        )
    if agreed.marketing:
        purposes["marketing"] = MarketingPurpose(
            affiliates=agreed.marketing, channels=(Channel.APP, Channel.SMS), until=until
        )
    return terms.model_copy(update=purposes)


SCARCE: Final = "first-come"
SCARCE_OFFERS: Final = 8
"""Far fewer than customers who could have one."""

FAITHFUL: Final = "big-spenders"
FAITHFUL_WON: Final = 1_900_000
FAITHFUL_WORTH: Final = 1_000
FAITHFUL_USES: Final = 40


def campaigns(now: datetime) -> tuple[Campaign, ...]:
    """One campaign with fewer offers than there are customers for it, and one for who has spent a lot."""
    return (
        _campaign(SCARCE, now, won=10_000, worth=3_000, uses=1, offers=SCARCE_OFFERS),
        _campaign(FAITHFUL, now, won=FAITHFUL_WON, worth=FAITHFUL_WORTH, uses=FAITHFUL_USES, offers=5),
    )


def _campaign(name: str, now: datetime, *, won: int, worth: int, uses: int, offers: int) -> Campaign:
    return Campaign(
        campaign_id=name,
        financial=(FINANCIAL,),
        telecom=(TELECOM,),
        channels=(Channel.APP,),
        begins_at=now - timedelta(hours=1),
        ends_at=now + timedelta(days=60),
        segment=Segment(days=30, amount_min=Money.of(won, "KRW")),
        worth=Money.of(worth, "KRW"),
        uses_max=uses,
        valid_days=14,
        budget=Budget(amount=Money.of(worth * uses * offers, "KRW"), offers=offers),
        frequency=Frequency(offers=5, days=30),
    )
