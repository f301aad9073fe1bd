"""What a payment's own event says of it, as far as sharing asks: pure."""

from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Struct

from gateway.base.keys import ConsentKey
from gateway.base.storable import is_storable
from schemas.primitives import ConsentId, MerchantId, PartnerId, minor_of


class ToldPurchase(Struct, frozen=True, gc=False):
    """A settled purchase as its event tells it: nothing of the merchant but its id, and no token."""

    consent_key: ConsentKey
    merchant_id: MerchantId
    amount_minor: int
    currency: str
    paid_at: datetime


class _Amount(Struct, frozen=True, gc=False):
    currency: str
    value: str


class _Settled(Struct, frozen=True, gc=False):
    """What is read of an event that tells that a payment is settled."""

    payment_id: str
    partner_id: str
    consent_id: str
    merchant_id: str
    amount: _Amount
    paid_at: Annotated[datetime, msgspec.Meta(tz=True)]
    original_payment_id: str | None = None


_read: Final = msgspec.json.Decoder(_Settled).decode


def purchase_of(named: tuple[str, str], body: bytes) -> ToldPurchase | None:
    """What the event of a settled payment says; None where the payment's row has to be asked, as that of a refund.

    It was written from that row, in its transaction. Events of earlier releases lack the time of payment.

    Args:
        named: partner and id of the payment that the event is about.
        body: of the event.
    """
    try:
        told = _read(body)
        minor = minor_of(told.amount.value, told.amount.currency)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    if (told.partner_id, told.payment_id) != named or told.original_payment_id is not None:
        return None
    if not is_storable(told.consent_id + told.merchant_id):
        return None
    consent_key = (PartnerId(told.partner_id), ConsentId(told.consent_id))
    return ToldPurchase(consent_key, MerchantId(told.merchant_id), minor, told.amount.currency, told.paid_at)
