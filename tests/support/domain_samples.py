"""Valid orders, consents and merchants for the tests of the domain; every argument overrides one field."""

from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.consents.rules.consent import Consent
from gateway.directory.funding import TokenUse
from gateway.directory.merchants import Merchant
from gateway.network.exchange import Acceptor
from schemas.consents import ConsentStatus, ConsentTerms, PaymentPurpose
from schemas.orders import PaymentOrder
from schemas.primitives import CustomerId, FundingToken, MerchantId, Money, NetworkId, PartnerId

NOW = datetime(2025, 5, 17, 3, 4, 5, tzinfo=UTC)


def krw(minor: int) -> Money:
    return Money.of(minor, "KRW")


def order(**fields: Any) -> PaymentOrder:
    defaults: dict[str, Any] = {
        "partner_id": "partner-1",
        "order_id": "order-1",
        "consent_id": "consent-1",
        "merchant_id": "merchant-1",
        "amount": krw(10_000),
        "issued_at": NOW - timedelta(seconds=1),
        "expires_at": NOW + timedelta(minutes=5),
    }
    return PaymentOrder(**(defaults | fields))


def purpose(**fields: Any) -> PaymentPurpose:
    return PaymentPurpose(**({"funding_token": "token-1", "max_per_payment": (krw(50_000),)} | fields))


def terms(**fields: Any) -> ConsentTerms:
    defaults: dict[str, Any] = {
        "consent_id": "consent-1",
        "partner_id": "partner-1",
        "customer_id": "customer-1",
        "valid_from": NOW - timedelta(days=40),
        "valid_until": NOW + timedelta(days=400),
    }
    if "payment" not in fields:
        defaults["payment"] = purpose()
    return ConsentTerms(**(defaults | fields))


def consent(status: ConsentStatus = ConsentStatus.AUTH, **fields: Any) -> Consent:
    return Consent(terms(**fields), 1, status)


def merchant(*, mcc: str = "5411", active: bool = True, networks: frozenset[str] = frozenset({"net-a"})) -> Merchant:
    acceptor = Acceptor("ACCEPTOR1", "Shop Seoul KR", mcc)
    return Merchant(MerchantId("merchant-1"), acceptor, frozenset(NetworkId(n) for n in networks), active)


USE = TokenUse(FundingToken("token-1"), CustomerId("customer-1"), PartnerId("partner-1"))
"""What the sample consent pays with."""
