"""What affiliates are told: payments shared with them, and what they must erase; and what they confirm.

An affiliate knows a customer, a consent, a payment and a card by names that the gateway made for it alone: keyed MACs,
under a key of the affiliate's own. Two affiliates that put their books together find no name in both.
"""

from enum import StrEnum, unique
from typing import Annotated, Final, Self
from uuid import UUID

from pydantic import Field, StringConstraints, model_validator

from schemas.consents import ScopeName
from schemas.primitives import (
    NO_CARD_NUMBER,
    MerchantCategoryCode,
    MerchantIdField,
    Model,
    Money,
    PartnerId,
    UtcTime,
)

ERASURE_TYPE: Final = "kr.mypay.sharing.erasure.v1"
"""CloudEvents type of an affiliate's confirmation that it has erased."""

Pseudonym = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{27}$", strict=True)]
"""160 bits of an HMAC-SHA256, base64url; made for one affiliate and of no meaning to any other."""
KeyName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", strict=True)]
Month = Annotated[str, StringConstraints(pattern=r"^2[0-9]{3}-(0[1-9]|1[0-2])$", strict=True)]
AmountBand = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3} ([0-9]+-[0-9]+|[0-9]+\+)$", strict=True)]
ShortText = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,300}$", strict=True), NO_CARD_NUMBER]


@unique
class SharingUse(StrEnum):
    """What shared data may be used for: the purposes that a consent's ``sharing.purposes`` can name to any effect."""

    SPENDING_ANALYSIS = "spending-analysis"
    """Statistics of the customer's own spending, shown to the customer."""
    CREDIT_ASSESSMENT = "credit-assessment"
    """Judging what credit the customer can bear."""
    LOYALTY = "loyalty"
    """Points and benefits for each payment."""
    FRAUD_PREVENTION = "fraud-prevention"
    """Telling the customer's payments from a thief's."""


class SharedData(Model):
    """What is shared of a payment: the fields that the use, the approval and the consent all allow, and no other.

    Attributes:
        category: the merchant's ISO 18245 category.
        amount_band: ``KRW 10000-50000``: from the first up to, and without, the second; ``KRW 1000000+``: from there.
        month: of the payment, in Asia/Seoul: ``2026-11``.
        region: the merchant's city.
        exact_time: when it was paid.
        token: the affiliate's own name of the card or account that paid.
    """

    category: MerchantCategoryCode | None = None
    amount_band: AmountBand | None = None
    month: Month | None = None
    amount: Money | None = None
    region: ShortText | None = None
    exact_time: UtcTime | None = None
    payee: MerchantIdField | None = None
    token: Pseudonym | None = None


class ShareUse(Model):
    """One use that a payment is shared for.

    Attributes:
        legal_basis: on what it rests; approved_by: who approved it for this affiliate.
        data: may be used for this purpose alone.
    """

    purpose: Annotated[SharingUse, Field(strict=False)]
    legal_basis: ShortText
    approved_by: ShortText
    data: SharedData


class PaymentShared(Model):
    """A settled payment of a customer who lets the affiliate have it. Each payment comes once at most.

    Attributes:
        share_id: the affiliate's own name of the payment.
        customer: its own name of the customer; the same for all of its payments under one ``key_id``.
        key_id: names the key that the names were made with; a new one makes new names.
        consent_ref: what an erase notice names.
        use_until: first moment at which it may be used no more, and must be erased.
    """

    share_id: Pseudonym
    affiliate_id: ScopeName
    customer: Pseudonym
    key_id: KeyName
    consent_ref: Pseudonym
    use_until: UtcTime
    uses: Annotated[tuple[ShareUse, ...], Field(min_length=1, max_length=16)]
    shared_at: UtcTime

    @model_validator(mode="after")
    def _in_time(self) -> Self:
        if self.use_until <= self.shared_at:
            raise ValueError("use_until must be later than shared_at")
        if len({u.purpose for u in self.uses}) != len(self.uses):
            raise ValueError("uses names the same purpose twice")
        return self


class CustomerName(Model):
    """A name that the affiliate knows a customer by, and the key that it was made with."""

    key_id: KeyName
    customer: Pseudonym


@unique
class EraseCause(StrEnum):
    """Why shared data must be erased."""

    ENDED = "ended"  # the customer's permission was revoked, or its time is over
    DROPPED = "dropped"  # the customer's terms name the affiliate, a use or a field of the data no more
    WITHDRAWN = "withdrawn"  # what the data was shared for is not approved for the affiliate any more


class EraseNotice(Model):
    """Everything shared under one ``consent_ref`` must be erased; nothing more comes under it.

    Attributes:
        customers: the names that the data was shared under.
        erase_by: until when the gateway expects the signed confirmation.
    """

    notice_id: UUID
    affiliate_id: ScopeName
    consent_ref: Pseudonym
    customers: Annotated[tuple[CustomerName, ...], Field(min_length=1, max_length=64)]
    cause: Annotated[EraseCause, Field(strict=False)]
    noticed_at: UtcTime
    erase_by: UtcTime


class ErasureConfirmed(Model):
    """An affiliate's signed word that it has erased what a notice named; the record's key is ``notice_id``.

    Attributes:
        erased: how many shared payments it held.
    """

    notice_id: UUID = Field(strict=False)
    affiliate_id: ScopeName
    erased: Annotated[int, Field(ge=0, le=1_000_000_000)]
    erased_at: UtcTime

    @property
    def partner_id(self) -> PartnerId:
        """Who signs: as the door asks every message."""
        return PartnerId(self.affiliate_id)

    @property
    def record_key(self) -> str:
        """What the record's Kafka key must be."""
        return str(self.notice_id)
