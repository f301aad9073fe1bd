"""What sharing knows of payments, affiliates and what was shared before."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from gateway.base.keys import ConsentKey
from schemas.primitives import ConsentId, MerchantId, PartnerId, PaymentId
from schemas.sharing import EraseCause, SharingUse

PaymentKey = tuple[PartnerId, PaymentId]
"""Partner and payment."""

ShareKey = tuple[PartnerId, PaymentId, str]
"""Partner, payment and affiliate: a payment is shared with an affiliate once, ever."""


class Place(Struct, frozen=True, order=True, gc=False):
    """How far the stage has read what happened: a place in the order of the outbox."""

    tx: int = 0
    id: int = 0


class SettledPayment(Struct, frozen=True, gc=False):
    """A settled purchase, as far as any use may see it.

    Attributes:
        category: ISO 18245; name_location: ISO 8583's DE43; both None where the directory has lost the merchant.
        funding_token: asked for only where somebody may have a name of it.
    """

    partner_id: PartnerId
    payment_id: PaymentId
    consent_id: ConsentId
    merchant_id: MerchantId
    amount_minor: int
    currency: str
    paid_at: datetime
    category: str | None = None
    name_location: str | None = None
    funding_token: str | None = None

    @property
    def consent_key(self) -> ConsentKey:
        """Of the consent that it was paid under."""
        return (self.partner_id, self.consent_id)

    @property
    def key(self) -> PaymentKey:
        """Partner and payment."""
        return (self.partner_id, self.payment_id)


class Approval(Struct, frozen=True, gc=False):
    """Somebody approved that an affiliate is given data for a use, and on what that rests."""

    affiliate_id: str
    use: SharingUse
    legal_basis: str
    approved_by: str


@dataclass(frozen=True, slots=True)
class Notice:
    """That what was shared must be erased: told to the affiliate, which confirms it."""

    notice_id: UUID
    cause: EraseCause
    noticed_at: datetime
    erase_by: datetime


class Holder(Struct, frozen=True, gc=False):
    """An affiliate that was given something under a consent. It ends with its erase notice: then a new round begins.

    Attributes:
        round: 1, 2 …: a customer may permit again what they had ended.
        reference: the affiliate's own name of this consent and round.
        key_ids: the keys under which its names of the customer were made.
        uses, fields: for which it was given anything, and what was in it; sorted.
    """

    key: ConsentKey
    customer_id: str
    affiliate_id: str
    round: int
    reference: str
    key_ids: tuple[str, ...]
    since: datetime
    uses: tuple[str, ...]
    notice: Notice | None = None
    confirmed_at: datetime | None = None
    fields: tuple[str, ...] = ()


class ShareRow(Struct, frozen=True, gc=False):
    """One share as it is kept: what left, to whom, under which version of the consent, and for how long."""

    key: ShareKey
    consent_key: ConsentKey
    consent_version: int
    round: int
    share_id: str
    key_id: str
    uses: tuple[str, ...]
    fields: tuple[str, ...]
    use_until: datetime
    shared_at: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """What happened past a place: settled payments under consents that have to do with sharing, and changed consents.

    Attributes:
        last: the last place that was looked at; the place asked for where nothing was.
        is_full: as many events as were asked for; there may be more.
        changed: consents that changed under which somebody holds shares.
    """

    last: Place
    is_full: bool = False
    settled: tuple[SettledPayment, ...] = ()
    changed: tuple[ConsentKey, ...] = field(default=())
