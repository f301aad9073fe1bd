"""Whose a funding token is, and who may pay with it.

A token stands for one customer's card. A partner may use it only under that customer's consent, and only while the
customer lets this partner use it. Both are asked again at every door: when a consent is requested, granted, resumed or
amended, and under the consent's lock when a payment is about to be sent.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from schemas.consents import ConsentTerms
from schemas.primitives import CustomerId, FundingToken, PartnerId
from schemas.reasons import Reason, ReasonCode

TOKEN_NOT_USABLE: Final = Reason(
    code=ReasonCode.DS0H, text="the funding token is none that the consent's customer lets this partner use"
)
"""One answer for a token that is missing, another customer's, or not (any more) this partner's to use: ids leak
nothing."""

CARD_NOT_OPENED: Final = Reason(
    code=ReasonCode.MS03, text="the card behind the funding token cannot be used; the operator has been told"
)
"""The token is the customer's and this partner's to use, and what is stored behind it does not open: an incident."""


class OwnedToken(NamedTuple):
    """A token with the customer whose card it must be."""

    token: FundingToken
    customer_id: CustomerId


class Sealed(Protocol):
    """A card as the vault sealed it."""

    @property
    def key_id(self) -> str:
        """Which master key sealed it."""

    @property
    def nonce(self) -> bytes:
        """AES-GCM nonce."""

    @property
    def ciphertext(self) -> bytes:
        """AES-GCM ciphertext with its tag."""


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token to store: whose it is, who may use it, and the card as it was sealed for this owner."""

    token: FundingToken
    customer_id: CustomerId
    partners: tuple[PartnerId, ...]
    sealed: Sealed


@dataclass(frozen=True, slots=True)
class SealedToken:
    """A token's row as it is sealed."""

    token: FundingToken
    customer_id: CustomerId | None
    key_id: str
    nonce: bytes
    ciphertext: bytes


class TokenUse(NamedTuple):
    """One partner's use of one customer's token."""

    token: FundingToken
    customer_id: CustomerId
    partner_id: PartnerId

    @property
    def owned(self) -> OwnedToken:
        """The token with its owner."""
        return OwnedToken(self.token, self.customer_id)


def token_use(terms: ConsentTerms) -> TokenUse | None:
    """The use that a consent makes of a token; None where it permits no payments."""
    if terms.payment is None:
        return None
    return TokenUse(terms.payment.funding_token, terms.customer_id, terms.partner_id)


def token_uses(terms: Iterable[ConsentTerms]) -> list[TokenUse]:
    """The uses that consents make of tokens, each once, in order."""
    return sorted({use for each in terms if (use := token_use(each)) is not None})
