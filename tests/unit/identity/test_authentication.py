"""The judge of assertions: its precedence, its edges, and what it asks for."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from gateway.base.validity import CLOCK_SKEW_MAX
from gateway.identity.assurance import (
    ASSERTION_KEPT,
    OPERATION_OF,
    Assertion,
    AssurancePolicy,
    AssuranceRule,
    AssuredOperation,
    Issuer,
    Requirement,
)
from gateway.identity.rules import (
    ASSERTION_LIFETIME_MAX,
    Accepted,
    is_made_for,
    judge_consent_assertion,
    judge_payment_assertion,
    judge_standing_assertion,
    link_of,
)
from schemas.assertions import ConsentLink, LinkedCommand, StandingOrderLink
from schemas.primitives import Money
from schemas.reasons import Reason, ReasonCode
from schemas.topics import TOPICS
from tests.support.domain_samples import NOW, krw, order

SECOND = timedelta(seconds=1)
ISSUER = Issuer("https://idp", "telecom", "https://gateway", {"sms": 1, "app": 2, "usim": 3})
POLICY = AssurancePolicy(
    (
        AssuranceRule(AssuredOperation.PAYMENT, {"KRW": 1_000}, Requirement(0, timedelta(seconds=600))),
        AssuranceRule(AssuredOperation.PAYMENT, {"KRW": 20_000}, Requirement(2, timedelta(seconds=300))),
        AssuranceRule(AssuredOperation.PAYMENT, {"KRW": 50_000, "USD": 5_000}, Requirement(3, timedelta(seconds=120))),
        AssuranceRule(AssuredOperation.GRANT, None, Requirement(2, timedelta(seconds=300))),
        AssuranceRule(AssuredOperation.REVOKE, None, Requirement(0, timedelta(seconds=3600))),
        AssuranceRule(AssuredOperation.SUSPEND, {"KRW": 1}, Requirement(1, timedelta(seconds=300))),
    ),
    methods={"otp": 1, "pin": 2, "hwk": 3},
)
ORDER = order()


def assertion(**fields: Any) -> Assertion:
    defaults: dict[str, Any] = {
        "issuer": "https://idp",
        "subject": "subject-1",
        "audience": ("https://other", "https://gateway"),
        "issued_at": NOW - 10 * SECOND,
        "not_before": None,
        "expires_at": NOW + timedelta(minutes=5),
        "authenticated_at": NOW - 20 * SECOND,
        "jti": "jti-1",
        "level_name": "app",
        "methods": ("pin",),
        "link": link_of(ORDER),
    }
    return Assertion(**(defaults | fields))


def judge(given: Assertion | None, **fields: Any) -> Accepted | Reason:
    defaults: dict[str, Any] = {
        "order": ORDER,
        "customer_id": "customer-1",
        "linked": "customer-1",
        "issuer": ISSUER,
        "policy": POLICY,
        "exempt": False,
        "now": NOW,
    }
    return judge_payment_assertion(given, **(defaults | fields))


def code(outcome: Accepted | Reason) -> str:
    return outcome.code.value if isinstance(outcome, Reason) else f"accepted {outcome.level}"


# Each step breaks one more rule, from the last of the table to the first: every answer must be that of the newest.
BREAKS: list[tuple[str, Callable[[dict[str, Any], dict[str, Any]], None], str]] = [
    ("subject", lambda a, j: j.update(linked="customer-2"), "DS0H"),
    ("link", lambda a, j: a.update(link=link_of(order(order_id="order-2"))), "DS17"),
    ("level", lambda a, j: a.update(level_name="sms"), "DS19"),
    ("auth_time", lambda a, j: a.update(authenticated_at=NOW - timedelta(hours=2)), "DS24"),
    ("lifetime", lambda a, j: a.update(issued_at=NOW - timedelta(hours=1)), "DS0B"),
    ("exp", lambda a, j: a.update(expires_at=NOW - CLOCK_SKEW_MAX, issued_at=NOW - timedelta(hours=3)), "DS24"),
    ("iat", lambda a, j: a.update(issued_at=NOW + CLOCK_SKEW_MAX + SECOND), "DT04"),
    ("audience", lambda a, j: a.update(audience=("https://other",)), "DS19"),
    ("operation", lambda a, j: j.update(issuer=replace(ISSUER, operations=frozenset())), "DS0G"),
    ("issuer", lambda a, j: j.update(issuer=None), "DS0F"),
    ("amount", lambda a, j: j.update(policy=AssurancePolicy(())), "DS0G"),
]


@pytest.mark.parametrize("depth", range(len(BREAKS)), ids=[name for name, _, _ in BREAKS])
def test_the_first_rule_that_is_broken_is_told(depth: int) -> None:
    claims: dict[str, Any] = {}
    surroundings: dict[str, Any] = {}
    for _, break_rule, _ in BREAKS[: depth + 1]:
        break_rule(claims, surroundings)
    assert code(judge(assertion(**claims), **surroundings)) == BREAKS[depth][2]


@pytest.mark.parametrize(("name", "break_rule", "expected"), BREAKS, ids=[name for name, _, _ in BREAKS])
def test_each_rule_alone_refuses(name: str, break_rule: Callable[..., None], expected: str) -> None:
    claims: dict[str, Any] = {}
    surroundings: dict[str, Any] = {}
    break_rule(claims, surroundings)
    if name == "lifetime":
        claims["expires_at"] = claims["issued_at"] + ASSERTION_LIFETIME_MAX + SECOND
    assert code(judge(assertion(**claims), **surroundings)) == expected
    # The exemption excuses from having a proof, not from its being one.
    assert code(judge(assertion(**claims), **surroundings, exempt=True)) == expected


def test_a_good_assertion_is_accepted_with_its_level() -> None:
    given = assertion()
    assert judge(given) == Accepted(given, 2)
    assert code(judge(assertion(level_name="usim", methods=("pin", "hwk")))) == "accepted 3"


@pytest.mark.parametrize(
    ("level_name", "methods", "expected"),
    [
        ("usim", ("hwk",), "accepted 3"),
        ("usim", ("pin", "hwk"), "accepted 3"),
        ("usim", ("pin",), "accepted 2"),
        ("app", ("hwk",), "accepted 2"),
        ("usim", ("otp",), "DS19"),
        ("usim", ("otp", "otp"), "DS19"),
        ("usim", ("unheard",), "DS19"),
        ("usim", ("unheard", "pin"), "accepted 2"),
        ("usim", ("PIN",), "DS19"),
        ("sms", ("hwk",), "DS19"),
    ],
)
def test_an_assertion_proves_no_more_than_how_the_customer_authenticated(
    level_name: str, methods: tuple[str, ...], expected: str
) -> None:
    told = judge(assertion(level_name=level_name, methods=methods))
    assert code(told) == expected
    if level_name == "usim" and isinstance(told, Reason):
        assert "too low for how the customer authenticated (amr)" in told.text


@pytest.mark.parametrize("methods", [(), ("unheard",), ("PIN",)])
def test_who_authenticated_in_no_way_that_is_listed_proves_nothing(methods: tuple[str, ...]) -> None:
    assert POLICY.level(ISSUER, assertion(level_name="usim", methods=methods)) == 0
    assert POLICY.level(ISSUER, assertion(level_name="unheard", methods=("hwk",))) == 0


@pytest.mark.parametrize(
    ("minor", "exempt", "expected"),
    [(1_000, False, "accepted 0"), (1_001, False, "DS0A"), (1_001, True, "accepted 0"), (50_001, True, "DS0G")],
)
def test_without_an_assertion(minor: int, exempt: bool, expected: str) -> None:
    assert code(judge(None, order=order(amount=krw(minor)), exempt=exempt)) == expected


@pytest.mark.parametrize(
    ("amount", "level"),
    [
        (krw(1_000), 0),
        (krw(1_001), 2),
        (krw(20_000), 2),
        (krw(20_001), 3),
        (krw(50_001), None),
        (Money.of(5_000, "USD"), 3),
        (Money.of(1, "JPY"), None),
    ],
)
def test_policy_asks_by_amount_and_currency(amount: Money, level: int | None) -> None:
    requirement = POLICY.requirement(AssuredOperation.PAYMENT, amount)
    assert (requirement and requirement.level) == level
    # A row with amounts never covers an operation without one.
    assert POLICY.requirement(AssuredOperation.SUSPEND) is None


@pytest.mark.parametrize(
    ("claim", "moment", "expected"),
    [
        ("issued_at", NOW + CLOCK_SKEW_MAX, "accepted 2"),
        ("issued_at", NOW + CLOCK_SKEW_MAX + SECOND, "DT04"),
        ("not_before", NOW + CLOCK_SKEW_MAX, "accepted 2"),
        ("not_before", NOW + CLOCK_SKEW_MAX + SECOND, "DT04"),
        ("authenticated_at", NOW + CLOCK_SKEW_MAX, "accepted 2"),
        ("authenticated_at", NOW + CLOCK_SKEW_MAX + SECOND, "DT04"),
        ("authenticated_at", NOW - 300 * SECOND - CLOCK_SKEW_MAX, "accepted 2"),
        ("authenticated_at", NOW - 301 * SECOND - CLOCK_SKEW_MAX, "DS24"),
        ("expires_at", NOW - CLOCK_SKEW_MAX + SECOND, "accepted 2"),
        ("expires_at", NOW - CLOCK_SKEW_MAX, "DS24"),
        ("expires_at", NOW - 10 * SECOND + ASSERTION_LIFETIME_MAX, "accepted 2"),
        ("expires_at", NOW - 9 * SECOND + ASSERTION_LIFETIME_MAX, "DS0B"),
    ],
)
def test_clock_skew_edges(claim: str, moment: datetime, expected: str) -> None:
    assert code(judge(assertion(**{claim: moment}))) == expected


@pytest.mark.parametrize(
    ("claims", "amount", "told"),
    [
        ({"level_name": "sms"}, 20_000, "level 2 or higher (acr app or usim)"),
        ({"level_name": "app"}, 20_001, "level 3 or higher (acr usim)"),
        ({"level_name": "unheard"}, 20_000, "the assertion's level 0 is too low"),
        ({"authenticated_at": NOW - timedelta(hours=1)}, 20_000, "auth_time is at most 300 s old"),
        ({"authenticated_at": NOW - timedelta(hours=1)}, 20_001, "auth_time is at most 120 s old"),
    ],
)
def test_step_up_tells_what_to_obtain(claims: dict[str, Any], amount: int, told: str) -> None:
    asked = order(amount=krw(amount))
    outcome = judge(assertion(link=link_of(asked), **claims), order=asked)
    assert isinstance(outcome, Reason)
    assert told in outcome.text


def test_a_missing_assertion_tells_what_to_obtain() -> None:
    outcome = judge(None)
    assert outcome == Reason(
        code=ReasonCode.DS0A,
        text="the payment needs the customer's authentication: obtain an assertion of level 2 or higher whose "
        "auth_time is at most 300 s old",
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("partner_id", "partner-2"),
        ("order_id", "order-2"),
        ("consent_id", "consent-2"),
        ("merchant_id", "merchant-2"),
        ("amount", krw(10_001)),
    ],
)
def test_the_differing_field_is_named(field: str, value: Any) -> None:
    outcome = judge(assertion(), order=order(**{field: value}))
    assert isinstance(outcome, Reason)
    assert (outcome.code, outcome.text.split(" differs")[0].split(".")[-1]) == (ReasonCode.DS17, field)


def test_the_link_compares_amounts_whatever_was_computed_from_them() -> None:
    assert ORDER.amount.minor == 10_000  # caches a value in the order's own amount
    fresh = link_of(order(amount=Money(currency="KRW", value="10000")))
    assert code(judge(assertion(link=fresh))) == "accepted 2"


def test_unlinked_and_anothers_are_told_alike() -> None:
    assert judge(assertion(), linked=None) == judge(assertion(), linked="customer-2")


# --- consents ---

CONSENT_LINK = ConsentLink(
    partner_id="partner-1", consent_id="consent-1", command=LinkedCommand.GRANT, terms_digest="ab" * 32
)


def judge_command(given: Assertion | None, link: ConsentLink = CONSENT_LINK) -> Accepted | Reason:
    return judge_consent_assertion(
        given, link=link, customer_id="customer-1", linked="customer-1", issuer=ISSUER, policy=POLICY, now=NOW
    )


def test_a_command_needs_an_assertion_for_exactly_it() -> None:
    given = assertion(link=CONSENT_LINK)
    assert judge_command(given) == Accepted(given, 2)
    assert code(judge_command(None)) == "DS0A"
    assert code(judge_command(assertion())) == "DS17"  # made for a payment
    assert code(judge(given)) == "DS17"  # made for a command
    for changed in (
        {"partner_id": "partner-2"},
        {"consent_id": "consent-2"},
        {"command": LinkedCommand.REVOKE},
        {"terms_digest": "cd" * 32},
    ):
        assert code(judge_command(assertion(link=CONSENT_LINK.model_copy(update=changed)))) == "DS17"


def test_a_command_that_the_policy_frees_or_forgets() -> None:
    assert judge_command(None, CONSENT_LINK.model_copy(update={"command": LinkedCommand.REVOKE})) == Accepted(None, 0)
    for forgotten in (LinkedCommand.SUSPEND, LinkedCommand.AMEND):
        link = CONSENT_LINK.model_copy(update={"command": forgotten})
        assert code(judge_command(assertion(link=link), link)) == "DS0G"


def test_every_command_is_an_operation_of_its_own() -> None:
    assert set(OPERATION_OF.values()) | {AssuredOperation.PAYMENT} == set(AssuredOperation)


# --- exemption and keeping ---


def test_a_used_assertion_is_kept_past_every_replay() -> None:
    orders = next(t for t in TOPICS if t.name == "mypay.orders")
    assert timedelta(milliseconds=orders.retention_ms) <= ASSERTION_KEPT
    given = assertion()
    # Even if it was ordered in its very last moment.
    assert given.keep_until - (given.expires_at + CLOCK_SKEW_MAX) >= ASSERTION_KEPT


# --- whom an assertion is for: exactly, whatever it has in common ---


@pytest.mark.parametrize(
    "audience",
    [
        (),
        ("",),
        ("https",),
        ("https://gatewa",),
        ("https://gateway/",),
        ("https://gateway.evil.example",),
        ("https://gateway2",),
        ("https://GATEWAY",),
        (" https://gateway",),
        ("https://gateway ",),
        ("x https://gateway x",),
        ("https://gateway,https://other",),
    ],
)
def test_an_audience_that_is_only_like_ours_is_another(audience: tuple[str, ...]) -> None:
    assert code(judge(assertion(audience=audience))) == "DS19"


@pytest.mark.parametrize(
    "audience", [("https://gateway",), ("https://other", "https://gateway"), ("https://gateway",) * 2]
)
def test_an_audience_that_names_us_among_others_is_ours(audience: tuple[str, ...]) -> None:
    assert code(judge(assertion(audience=audience))).startswith("accepted")


# --- standing orders ---

STANDING_LINK = StandingOrderLink(
    partner_id="partner-1",
    standing_order_id="standing-1",
    consent_id="consent-1",
    merchant_id="merchant-1",
    amount=krw(10_000),
    schedule_digest="ab" * 32,
)


def judge_standing(given: Assertion | None, **fields: Any) -> Accepted | Reason:
    defaults: dict[str, Any] = {
        "link": STANDING_LINK,
        "customer_id": "customer-1",
        "linked": "customer-1",
        "issuer": ISSUER,
        "policy": POLICY,
        "exempt": False,
        "now": NOW,
    }
    return judge_standing_assertion(given, **(defaults | fields))


def test_a_standing_order_needs_an_assertion_for_exactly_it() -> None:
    given = assertion(link=STANDING_LINK)
    assert judge_standing(given) == Accepted(given, 2)
    assert code(judge_standing(assertion())) == "DS17"  # made for a payment
    assert code(judge(given)) == "DS17"  # made for a standing order
    for changed in (
        {"partner_id": "partner-2"},
        {"standing_order_id": "standing-2"},
        {"consent_id": "consent-2"},
        {"merchant_id": "merchant-2"},
        {"amount": krw(9_999)},
        {"schedule_digest": "cd" * 32},
    ):
        assert code(judge_standing(assertion(link=STANDING_LINK.model_copy(update=changed)))) == "DS17", changed


STANDING_BREAKS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "another customer": ({}, {"linked": "customer-2"}, "DS0H"),
    "nobody linked": ({}, {"linked": None}, "DS0H"),
    "too weak": ({"level_name": "sms", "methods": ()}, {}, "DS19"),
    "too long ago": ({"authenticated_at": NOW - timedelta(hours=2)}, {}, "DS24"),
    "over": ({"expires_at": NOW - timedelta(hours=2)}, {}, "DS24"),
    "another audience": ({"audience": ("https://other",)}, {}, "DS19"),
    "may not vouch for payments": ({}, {"issuer": replace(ISSUER, operations=frozenset())}, "DS0G"),
    "an unknown issuer": ({}, {"issuer": None}, "DS0F"),
    "no level is enough": ({}, {"policy": AssurancePolicy(())}, "DS0G"),
}


@pytest.mark.parametrize("case", STANDING_BREAKS)
def test_each_rule_refuses_the_proof_of_a_standing_order(case: str) -> None:
    claims, around, expected = STANDING_BREAKS[case]
    assert code(judge_standing(assertion(link=STANDING_LINK, **claims), **around)) == expected


def test_a_standing_order_without_a_proof() -> None:
    """As a payment of its amount: free where that is, exempt where the consent says so, and otherwise refused."""
    missing = judge_standing(None)
    assert isinstance(missing, Reason)
    assert (missing.code.value, "obtain an assertion of level" in missing.text) == ("DS0A", True)
    assert judge_standing(None, exempt=True) == Accepted(None, 0)
    assert judge_standing(None, link=STANDING_LINK.model_copy(update={"amount": krw(1_000)})) == Accepted(None, 0)
    assert code(judge_standing(None, link=STANDING_LINK.model_copy(update={"amount": krw(50_001)}))) == "DS0G"
    # A level of one is a proof, too.
    low = AssurancePolicy((AssuranceRule(AssuredOperation.PAYMENT, None, Requirement(1, timedelta(minutes=5))),))
    assert code(judge_standing(None, policy=low)) == "DS0A"


def test_a_proof_is_made_for_the_one_order_that_its_link_names() -> None:
    assert is_made_for(assertion(), ORDER)
    assert not is_made_for(assertion(), order(order_id="order-2"))
    assert not is_made_for(assertion(link=STANDING_LINK), ORDER)


def test_a_link_names_the_day_for_which_the_order_is() -> None:
    day = NOW.date() + timedelta(days=3)
    later = order(requested_execution_date=day)
    assert link_of(later).requested_execution_date == day
    assert is_made_for(assertion(link=link_of(later)), later)
    assert not is_made_for(assertion(link=link_of(order())), later)


@pytest.mark.parametrize(
    ("claims", "claim"),
    [
        ({"issued_at": NOW + timedelta(hours=1)}, "iat"),
        ({"not_before": NOW + timedelta(hours=1)}, "nbf"),
        ({"authenticated_at": NOW + timedelta(hours=1)}, "auth_time"),
    ],
)
def test_a_claim_that_lies_in_the_future_is_named(claims: dict[str, Any], claim: str) -> None:
    refused = judge(assertion(**claims))
    assert isinstance(refused, Reason)
    assert f"assertion's {claim} lies" in refused.text


def test_a_level_that_is_too_low_by_name_is_told_apart_from_one_that_the_methods_do_not_bear() -> None:
    by_name = judge(assertion(level_name="sms", methods=("pin",)))
    by_methods = judge(assertion(level_name="app", methods=("otp",)))
    assert isinstance(by_name, Reason)
    assert isinstance(by_methods, Reason)
    assert ("(amr)" in by_name.text, "(amr)" in by_methods.text) == (False, True)


def test_a_level_whose_name_the_provider_does_not_have_is_too_low_by_name() -> None:
    lowest = AssurancePolicy(
        (AssuranceRule(AssuredOperation.PAYMENT, None, Requirement(1, timedelta(minutes=5))),), methods={"pin": 2}
    )
    refused = judge(assertion(level_name="unheard"), policy=lowest)
    assert isinstance(refused, Reason)
    assert refused.text.startswith("the assertion's level 0 is too low: obtain an assertion of level 1 or higher")


@pytest.mark.parametrize(
    ("claims", "text"),
    [
        ({"link": STANDING_LINK}, "the assertion was made for something else: mypay_link.kind differs"),
        ({"expires_at": NOW + timedelta(hours=2)}, "the assertion is valid for longer than 60 minutes"),
        (
            {"authenticated_at": NOW - timedelta(hours=1)},
            (
                "the authentication is too old: obtain an assertion of level 2 or higher (acr app or usim) whose "
                "auth_time is at most 300 s old"
            ),
        ),
    ],
)
def test_a_refusal_tells_the_partner_what_to_change(claims: dict[str, Any], text: str) -> None:
    refused = judge(assertion(**claims))
    assert isinstance(refused, Reason)
    assert refused.text == text
