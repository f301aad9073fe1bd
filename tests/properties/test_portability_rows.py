"""Whatever a consent permits and a customer has paid: no record and no field beyond it is made."""

import json
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.portability.rules.records import PaymentFacts
from gateway.portability.rules.rows import Extract, consent_row, lists_of
from schemas.consents import PortabilityScope
from tests.support.builders import NOW
from tests.support.portability import ORG, PURPOSE

S = PortabilityScope
NAME, CATEGORY, TOKEN = "canary-name", "canary-category", "canary-token"

# Written out by hand: the members of each list, and what lets a member leave. True: the scope alone.
MEMBERS: dict[str, dict[str, Any]] = {
    "approved_list": {
        **dict.fromkeys(("card_id", "approved_num", "approved_dtime", "status", "pay_type", "approved_amt"), True),
        **dict.fromkeys(("currency_code", "total_install_cnt", "trans_dtime", "modified_amt"), True),
        "merchant_name": "is_consent_merchant_name_regno",
    },
    "trans_list": {
        **dict.fromkeys(("trans_num", "trans_type", "trans_dtime", "trans_amt", "currency_code", "pay_method"), True),
        "merchant_name": "is_consent_merchant_name_regno",
        "trans_category": "is_consent_trans_category",
    },
}
SCOPE = {"approved_list": S.CARD_APPROVAL, "trans_list": S.PAID_TRANSACTION}
STATES = ("rejected", "scheduled", "sent", "approved", "declined", "unknown", "reversing", "reversed", "settled")
NEVER_TOLD = {"rejected", "scheduled", "sent", "declined", "unknown"}

facts = st.builds(
    PaymentFacts,
    payment_id=st.uuids().map(str),
    operation=st.sampled_from(("purchase", "refund")),
    state=st.sampled_from(STATES),
    amount_minor=st.integers(100, 10**9),
    currency=st.sampled_from(("KRW", "USD")),
    approval_code=st.one_of(st.none(), st.just("A00001")),
    decided_at=st.just(NOW),
    changed_at=st.just(NOW + timedelta(seconds=1)),
    funding_token=st.one_of(st.none(), st.just(TOKEN)),
    merchant_name=st.one_of(st.none(), st.just(""), st.just(NAME)),
    mcc=st.one_of(st.none(), st.just(CATEGORY)),
    refunded_minor=st.integers(0, 99),
)
flags = st.fixed_dictionaries({n: st.booleans() for n, value in PURPOSE if n.startswith("is_consent_")})
scopes = st.sets(st.sampled_from(tuple(S)), min_size=1)


@given(payments=st.lists(facts, max_size=8), granted=scopes, asked=scopes, flags=flags)
def test_nothing_beyond_scopes_and_flags_leaves(
    payments: list[PaymentFacts], granted: set[S], asked: set[S], flags: dict[str, bool]
) -> None:
    purpose = PURPOSE.model_copy(update={"scopes": tuple(sorted(granted)), **flags})
    found = lists_of(payments, Extract.of(purpose, asked, ORG))
    told = {p.payment_id: p for p in payments}
    for name, rows in found.rows.items():
        assert SCOPE[name] in granted & asked
        for row in rows:
            for member, value in row.items():
                needs = MEMBERS[name][member]
                assert needs is True or flags[needs]
                assert value not in (None, "", [])
    for row in found.rows.get("trans_list", ()):
        assert told[str(row["trans_num"])].state not in NEVER_TOLD
    text = json.dumps(found.rows)
    assert TOKEN not in text
    assert (NAME in text) <= flags["is_consent_merchant_name_regno"]
    assert (CATEGORY in text) <= flags["is_consent_trans_category"]
    assert "null" not in json.dumps(consent_row(purpose, "C-1"))


@given(payments=st.lists(facts, max_size=8))
def test_what_had_no_effect_is_never_told(payments: list[PaymentFacts]) -> None:
    found = lists_of([p for p in payments if p.state in NEVER_TOLD], Extract.of(PURPOSE, PURPOSE.scopes, ORG))
    assert found.rows == {}
