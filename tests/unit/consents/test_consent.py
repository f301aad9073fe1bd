from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import combinations
from typing import Any

import pytest

from gateway.consents.rules.consent import STATUS_REFUSALS, Consent, ConsentCommand, consent_transition, refuse_order
from gateway.directory.merchants import Merchant
from schemas.consents import ConsentStatus, Payees
from schemas.orders import PaymentOrder
from schemas.primitives import Money
from schemas.reasons import Reason
from tests.support import domain_samples as sample
from tests.support.domain_samples import NOW, krw
from tests.support.messages import PORTABILITY

# "." refuses the command. Columns are the statuses before it, cells the status after it.
CONSENT_LIFE = """
            AWAU  AUTH  SUSP  RJCT  CANC  EXPD
  request   .     .     .     .     .     .
  grant     AUTH  .     .     .     .     .
  reject    RJCT  .     .     .     .     .
  suspend   .     SUSP  .     .     .     .
  resume    .     .     AUTH  .     .     .
  revoke    CANC  CANC  CANC  .     .     .
  expire    EXPD  EXPD  EXPD  .     .     .
  amend     .     AUTH  SUSP  .     .     .
"""


def test_a_consent_changes_as_its_table_says() -> None:
    header, *rows = (line.split() for line in CONSENT_LIFE.strip().splitlines())
    told = {(before, row[0]): after for row in rows for before, after in zip(header, row[1:], strict=True)}
    assert {status for status, _ in told} == {s.value for s in ConsentStatus}
    assert {command for _, command in told} == {c.value for c in ConsentCommand}
    for (before, command), after in told.items():
        result = consent_transition(ConsentStatus(before), ConsentCommand(command))
        assert (result or ".") == after, f"{command} of {before}"


def test_every_status_answers_an_order_and_only_an_authorised_consent_lets_it_pass() -> None:
    answers = {
        s: refuse_order(sample.order(), consent=sample.consent(s), merchant=sample.merchant(), now=NOW)
        for s in ConsentStatus
    }
    assert {s.value: a.code.value if a else None for s, a in answers.items()} == {
        "AWAU": "MD01",
        "AUTH": None,
        "SUSP": "TKSP",
        "RJCT": "MD01",
        "CANC": "MD01",
        "EXPD": "TKXP",
    }
    assert set(STATUS_REFUSALS) == set(ConsentStatus)


@dataclass
class Case:
    """What refuse_order is asked, before it is built: faults change it in any combination."""

    order: dict[str, Any] = field(default_factory=dict)
    purpose: dict[str, Any] = field(default_factory=dict)
    terms: dict[str, Any] = field(default_factory=dict)
    payees: dict[str, Any] = field(default_factory=dict)
    status: ConsentStatus = ConsentStatus.AUTH
    consent_exists: bool = True
    merchant_exists: bool = True
    merchant_active: bool = True

    def refused(self) -> Reason | None:
        payment = sample.purpose(**({"payees": Payees(**self.payees)} | self.purpose))
        terms = {"payment": payment} | self.terms
        consent: Consent | None = sample.consent(self.status, **terms) if self.consent_exists else None
        merchant: Merchant | None = sample.merchant(active=self.merchant_active) if self.merchant_exists else None
        order: PaymentOrder = sample.order(**self.order)
        return refuse_order(order, consent=consent, merchant=merchant, now=NOW)


Fault = tuple[str, str, Callable[[Case], object]]
MICROSECOND = timedelta(microseconds=1)
DATA_ONLY = {"payment": None, "portability": PORTABILITY}

# In order of precedence: name, code, how to make it so.
FAULTS: tuple[Fault, ...] = (
    ("no consent", "MD01", lambda c: setattr(c, "consent_exists", False)),
    ("another partner's", "MD01", lambda c: c.terms.update(partner_id="partner-2")),
    ("suspended", "TKSP", lambda c: setattr(c, "status", ConsentStatus.SUSP)),
    ("not yet valid", "DT01", lambda c: c.terms.update(valid_from=NOW + MICROSECOND)),
    ("past its end", "TKXP", lambda c: c.terms.update(valid_until=NOW)),
    ("not for payments", "AG01", lambda c: c.terms.update(DATA_ONLY)),
    ("issued in the future", "DT04", lambda c: c.order.update(issued_at=NOW + timedelta(seconds=60) + MICROSECOND)),
    ("expired", "TM01", lambda c: c.order.update(expires_at=NOW)),
    ("valid too long", "DT01", lambda c: c.order.update(issued_at=NOW - timedelta(hours=24))),
    ("merchant unknown", "AC03", lambda c: setattr(c, "merchant_exists", False)),
    ("merchant inactive", "AC07", lambda c: setattr(c, "merchant_active", False)),
    ("payee blocked", "SL12", lambda c: c.payees.update(block_merchants=("merchant-1",))),
    ("payee not allowed", "SL11", lambda c: c.payees.update(allow_merchants=("merchant-2",))),
    ("currency not allowed", "AM03", lambda c: c.purpose.update(max_per_payment=(Money.of(1, "USD"),))),
    ("over the maximum", "TKVE", lambda c: c.order.update(amount=krw(50_001))),
)
# These cannot be true together, or are one field with two wrong values.
EXCLUSIVE = {
    ("not yet valid", "past its end"),
    ("issued in the future", "expired"),
    ("issued in the future", "valid too long"),
}
PAIRS = [(a, b) for a, b in combinations(FAULTS, 2) if (a[0], b[0]) not in EXCLUSIVE]


def test_an_order_without_fault_passes() -> None:
    assert Case().refused() is None


@pytest.mark.parametrize(("_name", "code", "make"), FAULTS, ids=[f[0] for f in FAULTS])
def test_each_fault_is_refused_with_its_reason(_name: str, code: str, make: Callable[[Case], object]) -> None:
    case = Case()
    make(case)
    refused = case.refused()
    assert refused is not None
    assert refused.code == code
    assert refused.network_code is None


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=[f"{a[0]} before {b[0]}" for a, b in PAIRS])
def test_of_two_faults_the_earlier_one_is_told(first: Fault, second: Fault) -> None:
    alone, both = Case(), Case()
    first[2](alone)
    first[2](both)
    second[2](both)
    assert both.refused() == alone.refused()


def test_another_partners_consent_is_answered_like_a_missing_one() -> None:
    foreign = Case(terms={"partner_id": "partner-2"}, status=ConsentStatus.SUSP)
    assert foreign.refused() == Case(consent_exists=False).refused()


def test_a_record_that_belongs_to_another_id_is_as_good_as_none() -> None:
    assert Case(terms={"consent_id": "consent-2"}).refused() == Case(consent_exists=False).refused()
    assert Case(order={"merchant_id": "merchant-2"}).refused() == Case(merchant_exists=False).refused()


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(Case(terms={"valid_from": NOW}), id="first moment of the consent"),
        pytest.param(Case(terms={"valid_until": NOW + MICROSECOND}), id="last moment of the consent"),
        pytest.param(Case(order={"issued_at": NOW + timedelta(seconds=60)}), id="greatest clock skew"),
        pytest.param(Case(order={"expires_at": NOW + MICROSECOND}), id="last moment of the order"),
        pytest.param(
            Case(order={"issued_at": NOW, "expires_at": NOW + timedelta(hours=24)}), id="longest validity of an order"
        ),
        pytest.param(Case(order={"amount": krw(50_000)}), id="exactly the maximum per payment"),
    ],
)
def test_the_last_value_inside_a_bound_passes(case: Case) -> None:
    assert case.refused() is None


def test_a_refusal_names_the_limit_that_was_passed() -> None:
    over = Case(
        order={"amount": Money.of(1001, "USD")}, purpose={"max_per_payment": (krw(50_000), Money.of(1000, "USD"))}
    )
    refused = over.refused()
    assert refused is not None
    assert "10.00 USD" in refused.text
    early = Case(terms={"valid_from": NOW + timedelta(hours=1)}).refused()
    assert early is not None
    assert "2025-05-17T04:04:05+00:00" in early.text


# The merchant is merchant-1 of category 5411. Columns: allowed and blocked, merchants and categories.
PAYEES = """
  allow         allow  block         block  answer
  -             -      -             -      passes
  merchant-1    -      -             -      passes
  merchant-2    -      -             -      SL11
  -             5411   -             -      passes
  -             5812   -             -      SL11
  merchant-2    5411   -             -      passes
  merchant-1    5812   -             -      passes
  merchant-2    5812   -             -      SL11
  -             -      merchant-2    -      passes
  -             -      -             5812   passes
  -             -      -             5411   SL12
  merchant-1    -      merchant-1    -      SL12
  merchant-1    -      -             5411   SL12
  -             5411   merchant-1    -      SL12
  -             5411   -             5812   passes
"""


@pytest.mark.parametrize("row", PAYEES.strip().splitlines()[1:])
def test_payees_are_allowed_and_blocked_as_the_table_says(row: str) -> None:
    *lists, answer = row.split()
    names = ("allow_merchants", "allow_categories", "block_merchants", "block_categories")
    payees = {name: () if value == "-" else (value,) for name, value in zip(names, lists, strict=True)}
    refused = Case(payees=payees).refused()
    assert (refused.code.value if refused else "passes") == answer
