"""Whatever one thing is changed, in an assertion or in the order it was made for, the payment is refused."""

import json
from datetime import date, timedelta
from typing import Any

import jwt
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gateway.identity.assurance import Assertion, AssurancePolicy, AssuranceRule, AssuredOperation, Requirement
from gateway.identity.jose.assertion import JwsAssertionVerifier
from gateway.identity.rules import Accepted, judge_consent_assertion, judge_payment_assertion
from gateway.proving.counterparts.idp.provider import IdentityProvider
from schemas.assertions import AssertionClaims, ConsentLink, LinkedCommand, PaymentLink
from schemas.orders import PaymentOrder
from schemas.primitives import EXPONENTS, Money
from schemas.reasons import Reason, ReasonCode
from tests.support.assertion_samples import CONSENT_LINK, Trust, provider
from tests.support.domain_samples import NOW, order

IDP = provider()
OTHER = provider("telecom")
TRUST = Trust(IDP, OTHER)
VERIFIER = JwsAssertionVerifier(TRUST)
STRONG = Requirement(2, timedelta(seconds=300))
POLICY = AssurancePolicy(tuple(AssuranceRule(operation, None, STRONG) for operation in AssuredOperation), {"hwk": 3})

ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
currencies = st.sampled_from(sorted(EXPONENTS))
amounts = st.builds(Money.of, st.integers(1, 999_999_999_999), currencies)
days = st.none() | st.dates(date(2026, 1, 1), date(2027, 12, 31))
orders = st.builds(
    order,
    partner_id=ids,
    order_id=ids,
    consent_id=ids,
    merchant_id=ids,
    amount=amounts,
    requested_execution_date=days,
)


def link(of: PaymentOrder) -> PaymentLink:
    fields = ("partner_id", "order_id", "consent_id", "merchant_id", "amount", "requested_execution_date")
    return PaymentLink(**{name: getattr(of, name) for name in fields})


def decide(token: str, of: PaymentOrder, *, linked: Any = "customer-1", now: Any = NOW) -> Accepted | Reason:
    verified = VERIFIER.verify(token, now)
    if isinstance(verified, Reason):
        return verified
    return judge_payment_assertion(
        verified,
        order=of,
        customer_id="customer-1",
        linked=linked,
        issuer=TRUST.issuer(verified.issuer),
        policy=POLICY,
        exempt=False,
        now=now,
    )


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, payload, _ = token.split(".")
    return json.loads(jwt.utils.base64url_decode(header)), json.loads(jwt.utils.base64url_decode(payload))


def resealed(token: str, header: dict[str, Any], claims: dict[str, Any]) -> str:
    """Another header and other claims under the old signature."""
    encoded = [jwt.utils.base64url_encode(json.dumps(part).encode()).decode() for part in (header, claims)]
    return ".".join([*encoded, token.split(".")[2]])


@given(orders)
def test_unchanged_it_is_accepted_from_either_group(placed: PaymentOrder) -> None:
    for idp in (IDP, OTHER):
        outcome = decide(idp.issue("subject-1", link(placed)), placed)
        assert isinstance(outcome, Accepted)
        assert outcome.level == 2


@given(orders, st.data())
def test_any_character_of_the_token(placed: PaymentOrder, data: st.DataObject) -> None:
    token = IDP.issue("subject-1", link(placed))
    place = data.draw(st.integers(0, len(token) - 1))
    character = data.draw(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ é\0"))
    assume(token[place] != character)
    assert isinstance(decide(token[:place] + character + token[place + 1 :], placed), Reason)


@given(orders, st.data())
def test_any_character_left_out_or_put_in(placed: PaymentOrder, data: st.DataObject) -> None:
    token = IDP.issue("subject-1", link(placed))
    place = data.draw(st.integers(0, len(token) - 1))
    assert isinstance(decide(token[:place] + token[place + 1 :], placed), Reason)
    assert isinstance(decide(token[:place] + data.draw(st.sampled_from("Aa0-_.")) + token[place:], placed), Reason)


json_values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.lists(st.text(max_size=4)), st.just({})
)


@given(orders, st.data())
def test_any_member_of_header_claims_and_link_is_signed(placed: PaymentOrder, data: st.DataObject) -> None:
    token = IDP.issue("subject-1", link(placed))
    header, claims = parts(token)
    places = [header, claims, claims["mypay_link"], claims["mypay_link"]["amount"]]
    members = data.draw(st.sampled_from(places))
    name = data.draw(st.sampled_from(sorted(members)))
    value = data.draw(json_values)
    assume(members[name] != value)
    if data.draw(st.booleans()):
        members[name] = value
    else:
        del members[name]
    assert isinstance(decide(resealed(token, header, claims), placed), Reason)


CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "partner_id": ids,
    "order_id": ids,
    "consent_id": ids,
    "merchant_id": ids,
    "amount": amounts,
    "requested_execution_date": days,
}


@given(orders, st.sampled_from(sorted(CHANGES)), st.data())
def test_any_field_of_the_order_is_linked(placed: PaymentOrder, field: str, data: st.DataObject) -> None:
    token = IDP.issue("subject-1", link(placed))
    value = data.draw(CHANGES[field])
    assume(value != getattr(placed, field))
    outcome = decide(token, placed.model_copy(update={field: value}))
    assert isinstance(outcome, Reason)
    assert (outcome.code, outcome.text.rpartition(".")[2]) == (ReasonCode.DS17, f"{field} differs")


@given(orders, currencies)
def test_the_same_digits_in_another_currency(placed: PaymentOrder, currency: str) -> None:
    assume(currency != placed.amount.currency)
    token = IDP.issue("subject-1", link(placed))
    other = Money.model_construct(currency=currency, value=placed.amount.value)
    outcome = decide(token, placed.model_copy(update={"amount": other}))
    assert isinstance(outcome, Reason)
    assert outcome.code is ReasonCode.DS17


@given(orders, st.text(min_size=1, max_size=20))
def test_who_is_signed_for_whom_is_bound(placed: PaymentOrder, stranger: str) -> None:
    assume(stranger != "customer-1")
    outcome = decide(IDP.issue("subject-1", link(placed)), placed, linked=stranger)
    assert isinstance(outcome, Reason)
    assert outcome.code is ReasonCode.DS0H


@given(orders)
def test_a_good_token_signed_by_somebody_else_with_the_same_names(placed: PaymentOrder) -> None:
    stranger = IdentityProvider("financial", clock=lambda: NOW)
    _, claims = parts(IDP.issue("subject-1", link(placed)))
    for kid in (IDP.kid, OTHER.kid, stranger.kid):
        assert isinstance(decide(stranger.sign(claims, kid=kid), placed), Reason)


commands = st.builds(
    ConsentLink,
    partner_id=ids,
    consent_id=ids,
    command=st.sampled_from(LinkedCommand),
    terms_digest=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
)


@given(commands, commands)
def test_a_command_is_accepted_for_exactly_itself(meant: ConsentLink, other: ConsentLink) -> None:
    verified = VERIFIER.verify(IDP.issue("subject-1", meant), NOW)
    assert isinstance(verified, Assertion)
    for asked in (meant, *(meant.model_copy(update={f: getattr(other, f)}) for f in ConsentLink.model_fields)):
        outcome = judge_consent_assertion(
            verified,
            link=asked,
            customer_id="customer-1",
            linked="customer-1",
            issuer=TRUST.issuer(IDP.issuer),
            policy=POLICY,
            now=NOW,
        )
        assert isinstance(outcome, Accepted if asked == meant else Reason)


@given(st.dictionaries(st.sampled_from(sorted([*AssertionClaims.model_fields, "kind"])), json_values))
@settings(max_examples=200)
def test_signed_nonsense_is_refused_and_raises_nothing(changes: dict[str, Any]) -> None:
    assume(any(c in AssertionClaims.model_fields for c in changes))
    _, claims = parts(IDP.issue("subject-1", CONSENT_LINK))
    outcome = VERIFIER.verify(IDP.sign({**claims, **changes}), NOW)
    assert isinstance(outcome, Assertion | Reason)


def test_no_field_of_an_order_is_forgotten() -> None:
    # When an order holds them, the times bound its own life and the proof is the assertion itself.
    beside = {"issued_at", "expires_at", "authentication"}
    assert set(PaymentOrder.model_fields) - beside == set(CHANGES)
    assert set(PaymentLink.model_fields) - {"kind"} == set(CHANGES)
