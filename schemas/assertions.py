"""What an identity provider signs: the claims of an assertion that a customer authenticated for one thing.

An assertion is a compact JWS (RFC 7515) over JSON claims (RFC 7519, OpenID Connect). Claims that are not listed here
are ignored, as RFC 7519 §4 asks; ``mypay_link`` is closed, for a member that is not understood would not be compared.
"""

from enum import StrEnum, unique
from typing import Annotated, Any, Final, Literal, Self

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.json import Decoder
from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints

from schemas.consents import NamedPurposes, OrgCode
from schemas.plain import PlainAmount, built, is_spelt_once, lines, whole
from schemas.primitives import (
    NO_CARD_NUMBER,
    ConsentIdField,
    MerchantIdField,
    Model,
    Money,
    OrderIdField,
    PartnerIdField,
    SeoulDate,
    StandingOrderIdField,
    id_field,
    lines_hold_card_number,
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


class PortabilityLink(Model):
    """Dynamic link to one transmission request.

    Attributes:
        request_digest: SHA-256, lower-case hexadecimal, of the request (:mod:`schemas.portability`).
    """

    kind: Literal["portability"] = "portability"
    partner_id: PartnerIdField
    request_id: Annotated[str, id_field(35), NO_CARD_NUMBER]
    consent_id: ConsentIdField
    rcv_org_code: OrgCode
    request_digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$", strict=True)]


Link = PaymentLink | ConsentLink | StandingOrderLink | PortabilityLink

_Printable = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,255}$", strict=True)]
_JwtId = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,128}$", strict=True)]
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
    jti: _JwtId
    acr: _Printable
    amr: Annotated[tuple[_Printable, ...], BeforeValidator(_as_tuple), Field(min_length=1, max_length=8)]
    mypay_link: Annotated[Link, Field(discriminator="kind")]

    @classmethod
    def of_plain(cls, body: bytes) -> Self | None:
        """Read the claims of a payment's proof that have no member which is not listed here."""
        try:
            plain = _decode_plain(body)
            aud = (plain.aud,) if isinstance(plain.aud, str) else tuple(plain.aud)
            amr = (plain.amr,) if isinstance(plain.amr, str) else tuple(plain.amr)
            texts = _TEXTS + len(aud) + len(amr) + (plain.nbf is not UNSET)
            if not is_spelt_once(body, 2 * texts) or not _hold(plain, aud, amr):
                return None
            link = _plain_link(plain.mypay_link)
        except ValueError:
            return None
        values = {
            "iss": plain.iss,
            "sub": plain.sub,
            "aud": aud,
            "iat": plain.iat,
            "exp": plain.exp,
            "auth_time": plain.auth_time,
            "nbf": None if plain.nbf is UNSET else plain.nbf,
            "jti": plain.jti,
            "acr": plain.acr,
            "amr": amr,
            "mypay_link": link,
        }
        return built(cls, values, _GIVEN if plain.nbf is UNSET else _GIVEN_WITH_NBF)


class _PlainLink(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A link to a payment that is made at once, as it is written."""

    kind: Literal["payment"]
    partner_id: str
    order_id: str
    consent_id: str
    merchant_id: str
    amount: PlainAmount


_PlainSeconds = Annotated[float, Meta(ge=0, le=CLAIM_SECONDS_MAX)]
_PlainNames = str | Annotated[list[str], Meta(min_length=1, max_length=8)]


class _PlainClaims(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Claims, as they are written."""

    iss: str
    sub: str
    aud: _PlainNames
    iat: _PlainSeconds
    exp: _PlainSeconds
    auth_time: _PlainSeconds
    jti: str
    acr: str
    amr: _PlainNames
    mypay_link: _PlainLink
    nbf: _PlainSeconds | UnsetType = UNSET


_decode_plain = Decoder(_PlainClaims).decode
_OWN_LINES: Final = lines(*map(whole, (_Printable, _Printable, _Printable, _JwtId)))
_NAMES: Final = {count: lines(*[whole(_Printable)] * count) for count in range(2, 17)}
"""By how many audiences and methods there are: at least one of each, and at most eight."""

_ID_LINES: Final = lines(*map(whole, (PartnerIdField, OrderIdField, ConsentIdField, MerchantIdField)))

_GIVEN_WITH_NBF: Final = frozenset(_PlainClaims.__struct_fields__)
_GIVEN: Final = _GIVEN_WITH_NBF - {"nbf"}
_LINK_GIVEN: Final = frozenset(_PlainLink.__struct_fields__)
_TEXTS: Final = len(_GIVEN) + 4 + 2 * len(_LINK_GIVEN) - 1 + 2 * len(PlainAmount.__struct_fields__)
"""Names and texts, without the audiences and methods: four claims are texts, and all of a link but its amount."""


def _hold(plain: _PlainClaims, aud: tuple[str, ...], amr: tuple[str, ...]) -> bool:
    names = (*aud, *amr)
    return (
        _OWN_LINES.fullmatch(f"{plain.iss}\n{plain.sub}\n{plain.acr}\n{plain.jti}") is not None
        and _NAMES[len(names)].fullmatch("\n".join(names)) is not None
    )


def _plain_link(plain: _PlainLink) -> PaymentLink:
    ids = f"{plain.partner_id}\n{plain.order_id}\n{plain.consent_id}\n{plain.merchant_id}"
    if _ID_LINES.fullmatch(ids) is None or lines_hold_card_number(ids):
        raise ValueError("an id may be none")
    values = {
        "kind": plain.kind,
        "partner_id": plain.partner_id,
        "order_id": plain.order_id,
        "consent_id": plain.consent_id,
        "merchant_id": plain.merchant_id,
        "amount": Money.of_plain_parts(plain.amount),
        "requested_execution_date": None,
    }
    return built(PaymentLink, values, _LINK_GIVEN)
