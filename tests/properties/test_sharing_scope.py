"""No field outside its scope leaves, nobody's names are another's, and nothing personal is in anything told."""

import hmac
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.base.calendar import day_of
from gateway.consents.rules.consent import Consent
from gateway.sealing.sealing import MasterKeys
from gateway.sharing.pseudonyms import Named, Pseudonyms, _Hmac
from gateway.sharing.rules.deciding import SHARED_WITHIN, data_of, decide_shares
from gateway.sharing.rules.policy import BANDS, OTHER_BANDS, amount_band, month_of
from gateway.sharing.rules.records import Approval, SettledPayment, ShareRow
from gateway.sharing.telling import ShareTeller
from schemas.codec import decode, encode, encode_fields
from schemas.consents import ConsentStatus, SharingField, SharingPurpose
from schemas.events import ConsentShared
from schemas.primitives import EXPONENTS, ConsentId, MerchantId, PartnerId, payment_id_of
from schemas.sharing import PaymentShared, SharedData, SharingUse
from tests.support.builders import NOW
from tests.support.domain_samples import terms

AFFILIATES = ("points", "mobile", "bank")
SEEN = {
    "spending-analysis": {"category", "amount_band", "month", "region"},
    "credit-assessment": {"category", "amount_band", "month"},
    "loyalty": {"category", "amount_band", "month", "amount", "payee"},
    "fraud-prevention": {f.value for f in SharingField},
}
"""The policy, written out once more."""

CANARIES = ("CUSTOMER-CANARY", "CONSENT-CANARY", "TOKEN-CANARY")
PAID = SettledPayment(
    partner_id=PartnerId("partner-1"),
    payment_id=payment_id_of("partner-1", "order-1"),
    consent_id=ConsentId("CONSENT-CANARY"),
    merchant_id=MerchantId("merchant-1"),
    amount_minor=12_345,
    currency="KRW",
    funding_token="TOKEN-CANARY",
    paid_at=NOW,
    category="5411",
    name_location=f"{'Shop':25}{'Seoul':13}KR",
)
NAMES = Pseudonyms(MasterKeys({"20260101-a": bytes(32)}))

some = lambda values: st.sets(st.sampled_from(values), min_size=1).map(lambda s: tuple(sorted(s)))  # noqa: E731


@given(
    affiliates=some(AFFILIATES),
    purposes=some((*SEEN, "something-else")),
    fields=some(list(SharingField)),
    approved=st.sets(st.tuples(st.sampled_from(AFFILIATES), st.sampled_from(list(SharingUse)))),
    status=st.sampled_from(list(ConsentStatus)),
    until_s=st.integers(-3, 3),
)
def test_what_leaves_is_what_consent_policy_and_approval_all_allow(
    affiliates: tuple[str, ...],
    purposes: tuple[str, ...],
    fields: tuple[SharingField, ...],
    approved: set[tuple[str, SharingUse]],
    status: ConsentStatus,
    until_s: int,
) -> None:
    until = NOW + timedelta(seconds=until_s)
    sharing = SharingPurpose(affiliates=affiliates, purposes=purposes, fields=fields, use_until=until)
    consent = Consent(terms(consent_id="CONSENT-CANARY", customer_id="CUSTOMER-CANARY", sharing=sharing), 1, status)
    approvals = {a: [Approval(a, u, "consent", "kim") for b, u in sorted(approved) if a == b] for a, _ in approved}
    granted = decide_shares([PAID], consents={PAID.consent_key: consent}, approvals=approvals, now=NOW)
    left = {
        (g.affiliate_id, u.approval.use.value): set(
            data_of(PAID, u.fields, lambda t, a=g.affiliate_id: NAMES.name(a, Named.TOKEN, t))
        )
        for g in granted
        for u in g.uses
    }
    live = status is ConsentStatus.AUTH and until_s > 0
    may = {
        (a, u.value): seen
        for a, u in approved
        if live and a in affiliates and u.value in purposes and (seen := SEEN[u.value] & {f.value for f in fields})
    }
    assert left == may


@given(st.text(max_size=64), st.text(max_size=64), st.sampled_from(list(Named)))
def test_names_are_equal_for_the_same_thing_of_the_same_affiliate_alone(one: str, other: str, what: Named) -> None:
    names = {a: NAMES.name(a, what, one) for a in AFFILIATES}
    assert len(set(names.values())) == len(AFFILIATES)
    for affiliate in AFFILIATES:
        assert (NAMES.name(affiliate, what, other) == names[affiliate]) is (one == other)
        assert len({NAMES.name(affiliate, kind, one) for kind in Named}) == len(Named)


def test_a_new_key_makes_new_names_and_the_old_ones_can_still_be_made() -> None:
    rotated = Pseudonyms(MasterKeys({"20260101-a": bytes(32), "20260301-b": bytes([1]) * 32}))
    old = NAMES.name("points", Named.CUSTOMER, "c")
    assert rotated.name("points", Named.CUSTOMER, "c") != old
    assert rotated.name("points", Named.CUSTOMER, "c", key_id="20260101-a") == old


def test_nothing_personal_is_in_what_is_told() -> None:
    everything = data_of(PAID, frozenset(SharingField), lambda t: NAMES.name("points", Named.TOKEN, t))
    assert list(everything) == list(SharedData.model_fields)
    text = encode_fields(everything).decode()
    assert [c for c in CANARIES if c in text] == []


@given(
    fields=st.sets(st.sampled_from(list(SharingField)), min_size=1),
    approved=st.sets(st.sampled_from(list(SharingUse)), min_size=1),
    minor=st.integers(1, 10**9),
    token=st.one_of(st.none(), st.just("token-1")),
    category=st.one_of(st.none(), st.just("5814")),
    micros=st.integers(0, 999_999),
)
def test_what_is_told_is_written_as_the_contract_s_models_write_it(
    fields: set[SharingField],
    approved: set[SharingUse],
    minor: int,
    token: str | None,
    category: str | None,
    micros: int,
) -> None:
    paid = replace(PAID, amount_minor=minor, funding_token=token, category=category)
    now = NOW.replace(microsecond=micros)
    sharing = SharingPurpose(
        affiliates=("points",),
        purposes=tuple(sorted(approved)),
        fields=tuple(sorted(fields)),
        use_until=NOW + timedelta(days=9),
    )
    consent = Consent(terms(consent_id=PAID.consent_id, sharing=sharing), 3, ConsentStatus.AUTH)
    approvals = {"points": [Approval("points", use, "consent §3", "kim") for use in sorted(approved)]}
    teller = ShareTeller(NAMES)
    for granted in decide_shares([paid], consents={paid.consent_key: consent}, approvals=approvals, now=now):
        reference = NAMES.name("points", Named.CONSENT, "c")
        name = NAMES.name("points", Named.PAYMENT, "p")
        uses, told = granted.allowed.names, granted.allowed.fields
        row = ShareRow(
            (paid.partner_id, paid.payment_id, "points"), paid.consent_key, 3, 1, name, NAMES.key_id, uses, told,
            granted.use_until, now,
        )  # fmt: skip
        shared = teller.affiliates_event(granted, row, reference)
        assert shared.body == encode(decode(PaymentShared, shared.body))
        event = teller.partners_event(granted, row)
        assert event.body == encode(decode(ConsentShared, event.body))
        seen = decode(ConsentShared, event.body)
        assert (seen.purposes.split(), seen.fields.split()) == (list(uses), list(told))
        assert {u.purpose for u in decode(PaymentShared, shared.body).uses} == {SharingUse(u) for u in uses}


@given(
    affiliates=some(AFFILIATES),
    fields=some(list(SharingField)).map(lambda some: tuple(sorted({*some, SharingField.TOKEN}))),
    minors=st.lists(st.integers(1, 10**6), min_size=1, max_size=3),
)
def test_each_affiliate_of_a_batch_is_told_its_own_names(
    affiliates: tuple[str, ...], fields: tuple[SharingField, ...], minors: list[int]
) -> None:
    """What is the same for all is made once a batch: a name is not."""
    sharing = SharingPurpose(
        affiliates=affiliates, purposes=("fraud-prevention",), fields=fields, use_until=NOW + timedelta(days=9)
    )
    consent = Consent(terms(consent_id=PAID.consent_id, sharing=sharing), 3, ConsentStatus.AUTH)
    approvals = {a: [Approval(a, SharingUse.FRAUD_PREVENTION, "consent §3", "kim")] for a in affiliates}
    paid = [replace(PAID, amount_minor=minor) for minor in minors]
    teller = ShareTeller(NAMES)
    granted = decide_shares(paid, consents={PAID.consent_key: consent}, approvals=approvals, now=NOW)
    assert len(granted) == len(paid) * len(affiliates)
    for one in granted:
        affiliate = one.affiliate_id
        reference, share = (NAMES.name(affiliate, what, "x") for what in (Named.CONSENT, Named.PAYMENT))
        row = ShareRow(
            (PAID.partner_id, PAID.payment_id, affiliate), PAID.consent_key, 3, 1, share, NAMES.key_id,
            one.allowed.names, one.allowed.fields, one.use_until, NOW,
        )  # fmt: skip
        shared = decode(PaymentShared, teller.affiliates_event(one, row, reference).body)
        assert shared.customer == NAMES.name(affiliate, Named.CUSTOMER, one.customer_id)
        [use] = shared.uses
        assert use.data.token == NAMES.name(affiliate, Named.TOKEN, "TOKEN-CANARY")
        if use.data.amount is not None:
            assert use.data.amount.minor == one.payment.amount_minor


@given(st.integers(1, 10**12 - 1), st.sampled_from(["KRW", "JPY", "USD", "BHD"]))
def test_every_amount_has_the_one_band_that_holds_it(minor: int, currency: str) -> None:
    begins = BANDS.get(currency, OTHER_BANDS)
    whole = minor // 10 ** EXPONENTS[currency]
    names = {f"{currency} {low}-{high}": low <= whole < high for low, high in pairwise(begins)}
    names[f"{currency} {begins[-1]}+"] = whole >= begins[-1]
    assert [name for name, holds in names.items() if holds] == [amount_band(minor, currency)]


@given(
    st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7))])).filter(lambda m: 1990 < m.year < 9999)
)
@example(datetime(2026, 11, 30, 15, tzinfo=UTC))
@example(datetime(2026, 12, 31, 14, 59, 59, 999_999, UTC))
def test_a_month_is_that_of_the_day_in_seoul(moment: datetime) -> None:
    assert month_of(moment) == f"{day_of(moment):%Y-%m}"


@given(age_s=st.integers(0, 2 * int(SHARED_WITHIN.total_seconds())))
def test_what_was_paid_long_ago_is_not_shared_for_it_may_be_forgotten_that_it_was(age_s: int) -> None:
    """Shares are destroyed once they were erased three years ago: no payment that is that old is shared anew."""
    assert timedelta(days=3 * 365) > SHARED_WITHIN
    sharing = SharingPurpose(
        affiliates=("points",), purposes=("loyalty",), fields=tuple(SharingField), use_until=NOW + timedelta(days=1)
    )
    consent = Consent(terms(consent_id=PAID.consent_id, sharing=sharing), 1, ConsentStatus.AUTH)
    approvals = {"points": [Approval("points", SharingUse.LOYALTY, "the customer's consent", "kim")]}
    paid = replace(PAID, paid_at=NOW - timedelta(seconds=age_s))
    shared = decide_shares([paid], consents={paid.consent_key: consent}, approvals=approvals, now=NOW)
    assert bool(shared) is (timedelta(seconds=age_s) <= SHARED_WITHIN)


@given(key=st.binary(min_size=32, max_size=32), message=st.binary(max_size=300))
def test_names_are_hmacs_of_the_standard_library(key: bytes, message: bytes) -> None:
    assert _Hmac(key).digest(message) == hmac.digest(key, message, "sha256")
