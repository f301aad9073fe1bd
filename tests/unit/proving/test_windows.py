"""Two independent readings of the contract's words about limits' windows must agree: the gateway's and the books'."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.consents.rules.limits import windows_at
from gateway.proving.books.windows import windows_of
from gateway.proving.collect.postgres import consent_row
from schemas.codec import encode
from schemas.consents import Alignment, ConsentTerms, PaymentPurpose, Period, PeriodLimit
from schemas.primitives import ConsentId, CustomerId, FundingToken, Money, PartnerId

MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2028, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 - zone added
LIMITS = [
    PeriodLimit(period=period, alignment=alignment, **most)  # type: ignore[arg-type]
    for period in Period
    for alignment in Alignment
    for most in (
        {"max_amount": Money.of(1000, "KRW")},
        {"max_amount": Money.of(1000, "USD")},
        {"max_count": 3},
    )
]


@settings(max_examples=300, deadline=None)
@given(
    start=MOMENTS,
    after=st.timedeltas(timedelta(0), timedelta(days=900)),
    limits=st.lists(st.sampled_from(LIMITS), unique_by=lambda limit: limit.key, max_size=16),
    lifetime=st.booleans(),
    currency=st.sampled_from(["KRW", "USD"]),
)
def test_both_readings_name_the_same_windows(
    start: datetime, after: timedelta, limits: list[PeriodLimit], lifetime: bool, currency: str
) -> None:
    start = start.replace(microsecond=0)
    at = start + after
    terms = ConsentTerms(
        consent_id=ConsentId("c"),
        partner_id=PartnerId("p"),
        customer_id=CustomerId("u"),
        valid_from=start,
        valid_until=start + timedelta(days=1000),
        payment=PaymentPurpose(
            funding_token=FundingToken("t"),
            max_per_payment=(Money.of(1, "KRW"), Money.of(1, "USD")),
            period_limits=tuple(limits),
            lifetime_amounts=(Money.of(5, "KRW"),) if lifetime else (),
            lifetime_count=9 if lifetime else None,
            single_use=lifetime,
        ),
    )
    row = consent_row("p", "c", 1, encode(terms).decode())
    theirs = {
        f"{w.key.limit_key}@{int(w.key.starts_at.timestamp())}"
        for w in windows_at(terms, at)
        if w.currency in {None, currency}
    }
    assert windows_of(row, currency, at.timestamp()) == theirs
