"""What affiliates are told of offers and aggregates, and what they tell of offers' uses.

An affiliate knows a customer by a name of its own (:mod:`schemas.sharing` says more of these); no message here has the
customer's id, the partner's or the consent's.
"""

from enum import StrEnum, unique
from typing import Annotated, Final
from uuid import UUID

from pydantic import Field, StringConstraints

from schemas.consents import Channel, ScopeName
from schemas.primitives import NO_CARD_NUMBER, MerchantCategoryCode, Model, Money, PartnerId, UtcTime, id_field
from schemas.reasons import Reason
from schemas.sharing import KeyName, Pseudonym

OFFER_GRANTED_TYPE: Final = "kr.mypay.marketing.offer-granted.v1"
OFFER_WITHDRAWN_TYPE: Final = "kr.mypay.marketing.offer-withdrawn.v1"
USE_COUNTED_TYPE: Final = "kr.mypay.marketing.use-counted.v1"
USE_REFUSED_TYPE: Final = "kr.mypay.marketing.use-refused.v1"
AGGREGATE_TYPE: Final = "kr.mypay.marketing.aggregate.v1"
OFFER_USE_TYPE: Final = "kr.mypay.marketing.use.v1"
"""CloudEvents type of an affiliate's signed word that an offer was used."""

UseIdField = Annotated[str, id_field(35), NO_CARD_NUMBER]
Region = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,13}$", strict=True)]
Week = Annotated[str, StringConstraints(pattern=r"^2[0-9]{3}-W(0[1-9]|[1-4][0-9]|5[0-3])$", strict=True)]
"""An ISO 8601 week in Asia/Seoul: ``2026-W48``."""


class OfferGranted(Model):
    """A customer is made an offer. One at most for each campaign and customer.

    Attributes:
        customer: the affiliate's own name of the customer; key_id: names the key that it was made with.
        channels: on which ways the customer lets it come.
        worth: the most that one use may cost; uses_max: how often it may be used.
        expires_at: first moment at which it can be used no more.
    """

    offer_id: UUID
    campaign_id: ScopeName
    affiliate_id: ScopeName
    customer: Pseudonym
    key_id: KeyName
    channels: tuple[Annotated[Channel, Field(strict=False)], ...]
    worth: Money
    uses_max: Annotated[int, Field(ge=1)]
    granted_at: UtcTime
    expires_at: UtcTime


@unique
class OfferEnd(StrEnum):
    """Why an offer can be used no more."""

    REVOKED = "revoked"  # the customer permits it no more
    EXPIRED = "expired"  # past its expires_at


class OfferWithdrawn(Model):
    """An offer ended before all its uses were taken. A use that is told from now on is refused."""

    offer_id: UUID
    campaign_id: ScopeName
    affiliate_id: ScopeName
    cause: Annotated[OfferEnd, Field(strict=False)]
    withdrawn_at: UtcTime


class OfferUse(Model):
    """An affiliate's signed word that a customer used an offer; the record's key is ``offer_id``.

    Attributes:
        use_id: chosen by the affiliate, unique per affiliate for ever.
        amount: what the use cost: at most the offer's ``worth``.
    """

    use_id: UseIdField
    offer_id: UUID = Field(strict=False)
    affiliate_id: ScopeName
    amount: Money
    used_at: UtcTime

    @property
    def partner_id(self) -> PartnerId:
        """Who signs: as the door asks every message."""
        return PartnerId(self.affiliate_id)

    @property
    def record_key(self) -> str:
        """What the record's Kafka key must be."""
        return str(self.offer_id)


class OfferUseCounted(Model):
    """A use was counted, once, against the offer, the campaign's caps and its budget."""

    use_id: UseIdField
    offer_id: UUID
    affiliate_id: ScopeName
    amount: Money
    occurred_at: UtcTime


class OfferUseRefused(Model):
    """A use was not counted: ``reason``."""

    use_id: UseIdField
    offer_id: UUID
    affiliate_id: ScopeName
    reason: Reason
    occurred_at: UtcTime


class AggregateCell(Model):
    """One cell: a category, a region, or a total over either where it is left out.

    Attributes:
        suppressed: too few customers, or others' numbers would give it away: the three numbers are left out.
    """

    category: MerchantCategoryCode | None = None
    region: Region | None = None
    suppressed: bool = False
    customers: Annotated[int, Field(ge=0)] | None = None
    payments: Annotated[int, Field(ge=0)] | None = None
    amount: Money | None = None


class AggregateTable(Model):
    """Settled payments of a week by category and region, of customers who agree to marketing. No cell: no payments.

    Attributes:
        revision: 1, 2 … of the week and currency.
        k: the least number of customers that a number may tell of.
    """

    week: Week
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$", strict=True)]
    revision: Annotated[int, Field(ge=1)]
    k: Annotated[int, Field(ge=2)]
    cells: tuple[AggregateCell, ...]
    published_at: UtcTime
