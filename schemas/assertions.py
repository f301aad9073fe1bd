"""What an identity provider signs: the claims of an assertion that a customer authenticated for one thing.

An assertion is a compact JWS (RFC 7515) over JSON claims (RFC 7519, OpenID Connect). Claims that are not listed here
are ignored, as RFC 7519 §4 asks; ``mypay_link`` is closed, for a member that is not understood would not be compared.
"""

from enum import StrEnum, unique
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints

from schemas.consents import NamedPurposes
from schemas.primitives import (
    ConsentIdField,
    MerchantIdField,
    Model,
    Money,
    OrderIdField,
    PartnerIdField,
    SeoulDate,
    StandingOrderIdField,
)

ASSERTION_CHARS_MAX: Final = 4096
"""Header, claims with every field at its longest, and signature take about 2,900 characters."""

ASSERTION_TYPE: Final = "mypay-assertion+jwt"
"""The JWS header's ``typ`` (RFC 8725 §3.11), required: no other kind of token of a provider is one of these."""

EPOCH_SECONDS_MAX: Final = 253_402_300_799
"""The last second of the year 9999: the last that a time can be told of."""

CLAIM_SECONDS_MAX: Final = 32_503_679_999
"""The last second of the year 2999, as for every time of a partner's: tolerances can be added to it."""


@unique
class LinkedCommand(StrEnum):
    """Commands on a consent that a customer can authenticate."""

    GRANT = "grant"
    REJECT = "reject"
    SUSPEND = "suspend"
    RESUME = "resume"
    REVOKE = "revoke"
    AMEND = "amend"


class PaymentLink(Model):
    """Dynamic link to one payment: every field of the order that the customer was shown.

    Attributes:
        requested_execution_date: of an order for a later day; left out of one that is paid at once, as there.
    """

    kind: Literal["payment"] = "payment"
    partner_id: PartnerIdField
    order_id: OrderIdField
    consent_id: ConsentIdField
    merchant_id: MerchantIdField
    amount: Money
    requested_execution_date: SeoulDate | None = None


class ConsentLink(Model):
    """Dynamic link to one command on a consent.

    Attributes:
        terms_digest: SHA-256, lower-case hexadecimal, of the terms that the command is about.
        purposes: those that the command names; left out of one that names none, as there.
    """

    kind: Literal["consent"] = "consent"
    partner_id: PartnerIdField
    consent_id: ConsentIdField
    command: Annotated[LinkedCommand, Field(strict=False)]
    terms_digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$", strict=True)]
    purposes: NamedPurposes | None = None


class StandingOrderLink(Model):
    """Dynamic link to one standing order: every field of it that the customer was shown.

    Attributes:
        amount: of each occurrence.
        schedule_digest: SHA-256, lower-case hexadecimal, of the schedule (:mod:`schemas.standing`).
    """

    kind: Literal["standing_order"] = "standing_order"
    partner_id: PartnerIdField
    standing_order_id: StandingOrderIdField
    consent_id: ConsentIdField
    merchant_id: MerchantIdField
    amount: Money
    schedule_digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$", strict=True)]


Link = PaymentLink | ConsentLink | StandingOrderLink

_Printable = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,255}$", strict=True)]
_Seconds = Annotated[float, Field(ge=0, le=CLAIM_SECONDS_MAX)]


def _as_tuple(value: Any) -> Any:
    # RFC 7519 §4.1.3: one audience may be a bare string.
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


class AssertionClaims(Model):
    """The claims. Times are seconds since the epoch (NumericDate).

    Attributes:
        iss: the identity provider.
        sub: the customer, as this provider knows them.
        aud: whom the assertion is for; must name the gateway.
        auth_time: when the customer last authenticated; iat, exp: life of the assertion.
        nbf: not before; optional.
        jti: unique per provider; each is used once.
        acr: assurance level, in the provider's own word.
        amr: how the customer authenticated (RFC 8176).
    """

    model_config = ConfigDict(extra="ignore")

    iss: _Printable
    sub: _Printable
    aud: Annotated[tuple[_Printable, ...], BeforeValidator(_as_tuple), Field(min_length=1, max_length=8)]
    iat: _Seconds
    exp: _Seconds
    auth_time: _Seconds
    nbf: _Seconds | None = None
    jti: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,128}$", strict=True)]
    acr: _Printable
    amr: Annotated[tuple[_Printable, ...], BeforeValidator(_as_tuple), Field(min_length=1, max_length=8)]
    mypay_link: Annotated[Link, Field(discriminator="kind")]
