"""Data held for internal management does not reach a campaign: types say so, and constructors refuse."""

from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from mypy import api

from gateway.consents.rules.consent import Consent
from gateway.marketing.rules.activity import (
    MarketingActivity,
    MarketingPermit,
    PaidRow,
    activity_of,
    permit_of,
)
from schemas.consents import ConsentStatus, Purpose
from tests.support.builders import NOW
from tests.support.domain_samples import terms
from tests.support.marketing import agrees

PAID = PaidRow(("partner-1", "consent-1"), UUID(int=1), 1_000, "KRW", NOW, "5411", None)  # type: ignore[arg-type]

PROGRAM = """
from collections.abc import Sequence
from datetime import datetime
from gateway.marketing.rules.activity import MarketingActivity, PaidRow
from gateway.marketing.rules.aggregates import contributions
from gateway.marketing.rules.campaign import Segment
from gateway.marketing.rules.offers import matches
from gateway.payments.rules.payment import Payment

def leak(segment: Segment, paid: PaidRow, payment: Payment, activity: MarketingActivity, now: datetime) -> None:
    matches(segment, activity, now)
    contributions([activity])
    matches(segment, paid, now)  # leaks
    matches(segment, payment, now)  # leaks
    contributions([paid])  # leaks
    contributions([payment])  # leaks
"""


def test_the_type_checker_lets_only_permitted_activity_through(tmp_path: Path) -> None:
    program = tmp_path / "leak.py"
    program.write_text(PROGRAM)
    told, _, status = api.run(["--strict", "--cache-dir", str(tmp_path / "cache"), "--no-error-summary", str(program)])
    assert status == 1
    lines = {int(line.split(":")[1]) for line in told.splitlines() if ": error:" in line}
    leaks = {n for n, line in enumerate(PROGRAM.splitlines(), 1) if line.endswith("# leaks")}
    assert lines == leaks


@pytest.mark.parametrize(
    "consent",
    [
        pytest.param(None, id="none"),
        pytest.param(Consent(terms(), 1, ConsentStatus.AUTH), id="no marketing"),
        pytest.param(agrees(status=ConsentStatus.CANC), id="revoked"),
        pytest.param(agrees(status=ConsentStatus.SUSP), id="suspended"),
        pytest.param(agrees(until_days=0), id="past its own end"),
        pytest.param(
            Consent(agrees().terms, 1, ConsentStatus.AUTH, ended=frozenset({Purpose.MARKETING})), id="purpose ended"
        ),
    ],
)
def test_no_permit(consent: Consent | None) -> None:
    assert not isinstance(permit_of(consent, NOW), MarketingPermit)


def test_there_is_no_other_way_to_a_permit_or_activity() -> None:
    permit = permit_of(agrees(), NOW)
    assert isinstance(permit, MarketingPermit)
    marketing = agrees().terms.marketing
    assert marketing is not None
    with pytest.raises(TypeError, match="permit_of"):
        MarketingPermit(object(), agrees(), marketing)
    with pytest.raises(TypeError, match="activity_of"):
        MarketingActivity(object(), permit, [])


def test_a_permit_opens_its_own_consents_payments_alone() -> None:
    permit = permit_of(agrees(), NOW + timedelta(seconds=1))
    assert isinstance(permit, MarketingPermit)
    other = PaidRow(("partner-2", "consent-1"), UUID(int=2), 1_000, "KRW", NOW, "5411", None)  # type: ignore[arg-type]
    assert [s.payment_id for s in activity_of(permit, [PAID, other]).spent] == [UUID(int=1)]
