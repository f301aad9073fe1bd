"""The mix says what it sends: the same seed sends the same, each kind is what its name says, every count is exact."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from gateway.consents.rules.consent import Consent, refuse_order
from gateway.directory.partners import PartnerKey
from gateway.identity.door import Authentic, Door, Faulty, Nobodys
from gateway.identity.jose.signature import JwsVerifier
from gateway.identity.signing import Signed
from gateway.messaging.records import Record
from gateway.proving.books import Ending
from gateway.proving.traffic.cast import Cast, Role, luhn_digit, make_cast, make_partners
from gateway.proving.traffic.mix import DECLINES, KINDS, ORDERS_MIN, PAID, Planned, Wave, counts_of, plan, roles_for
from gateway.proving.traffic.orders import OrderWriter, Written
from gateway.proving.traffic.shops import merchants
from gateway.proving.traffic.spoiling import SPOILS
from gateway.sealing.redaction import contains_secret
from schemas.cancellation import PaymentCancellation
from schemas.codec import decode
from schemas.consents import ConsentStatus
from schemas.envelope import EnvelopeError, read_envelope
from schemas.orders import ORDER_TYPE, PaymentOrder
from schemas.primitives import NetworkId
from schemas.reasons import Reason, ReasonCode
from schemas.refunds import REFUND_TYPE, PaymentRefund

NOW = datetime(2026, 11, 23, 3, tzinfo=UTC)
PARTNERS = make_partners()
SIGNATURE_KINDS = {
    "tampered": ReasonCode.DS17,
    "other_typ": ReasonCode.DS17,
    "foreign_key": ReasonCode.DS19,
    "unknown_key": ReasonCode.DS0E,
    "alg_none": ReasonCode.DS0B,
    "unsigned": ReasonCode.DS0B,
}
CONSENT_KINDS = {
    "payee_not_allowed": ReasonCode.SL11,
    "payee_blocked": ReasonCode.SL12,
    "payee_unknown": ReasonCode.AC03,
    "payee_closed": ReasonCode.AC07,
    "over_payment": ReasonCode.TKVE,
    "currency": ReasonCode.AM03,
    "expired": ReasonCode.TM01,
    "future": ReasonCode.DT04,
    "valid_too_long": ReasonCode.DT01,
    "dated_before": ReasonCode.DT01,
    "no_consent": ReasonCode.MD01,
    "suspended": ReasonCode.TKSP,
    "consent_over": ReasonCode.TKXP,
}


def cast_of(orders: int) -> Cast:
    return make_cast(roles_for(orders), partners=PARTNERS, now=NOW, seed=5)


@pytest.fixture(scope="module")
def day() -> tuple[Cast, list[Written]]:
    cast = cast_of(3000)
    planned = plan(3000, cast, 5)
    writer = OrderWriter(cast, planned)
    return cast, [writer.write(p, NOW) for p in planned]


class Keys:
    """Implements :class:`gateway.identity.signing.KeySource`."""

    def __init__(self) -> None:
        self._keys = {p.kid: PartnerKey(p.kid, p.partner_id, p.algorithm, p.jwk, NOW, None, None) for p in PARTNERS}

    def partner_exists(self, partner_id: str) -> bool:
        return any(p.partner_id == partner_id for p in PARTNERS)

    def key(self, kid: str) -> PartnerKey | None:
        return self._keys.get(kid)

    async def refresh_if_stale(self) -> bool:
        return False


def of(day: tuple[Cast, list[Written]], *kinds: str) -> list[Written]:
    found = [w for w in day[1] if w.planned.kind in kinds]
    assert found
    return found


@pytest.mark.parametrize("orders", [ORDERS_MIN, 777, 9000])
def test_a_plan_has_exactly_the_orders_asked_for_and_every_kind(orders: int) -> None:
    kinds = Counter(p.kind for p in plan(orders, cast_of(orders), 1))
    assert kinds.total() == orders
    assert kinds.keys() == KINDS.keys()
    assert {k: n for k, n in kinds.items() if k not in PAID} == counts_of(orders)
    assert sum(kinds[k] for k in PAID) > orders // 3


def test_fewer_orders_than_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="at least"):
        counts_of(ORDERS_MIN - 1)


def test_the_same_seed_plans_the_same_and_another_seed_does_not() -> None:
    cast = cast_of(500)
    again = make_cast(roles_for(500), partners=PARTNERS, now=NOW, seed=5)
    assert cast.customers == again.customers
    assert plan(500, cast, 9) == plan(500, again, 9)
    assert plan(500, cast, 9) != plan(500, cast, 10)


def test_waves_come_one_after_the_other() -> None:
    waves = [p.wave for p in plan(500, cast_of(500), 1)]
    assert waves == sorted(waves, key=list(Wave).index)


def test_a_limit_is_filled_before_it_is_passed() -> None:
    planned = plan(3000, cast_of(3000), 1)
    for kind, filling in (("over_day_amount", 2), ("over_day_count", 2), ("used_up", 1)):
        for place, over in enumerate(planned):
            if over.kind == kind:
                before = [p.kind for p in planned[:place] if p.consent_id == over.consent_id]
                assert len(before) == filling
                assert PAID.issuperset(before)


def test_only_what_is_to_be_declined_ends_like_it() -> None:
    for planned in plan(3000, cast_of(3000), 1):
        ends_so = any(str(planned.amount_minor).endswith(suffix) for suffix in DECLINES)
        assert ends_so == (planned.kind == "declined")


def test_card_numbers_are_made_up_and_pass_their_check(day: tuple[Cast, list[Written]]) -> None:
    for customer in day[0].customers:
        pan = customer.card.pan
        assert len(pan) == 16
        assert pan.startswith("9700")
        assert pan[-1] == luhn_digit(pan[:-1])
    assert day[0].customers[0].card.pan not in repr(day[0])


def test_a_good_order_verifies_and_is_allowed(day: tuple[Cast, list[Written]]) -> None:
    for written in of(day, *PAID, "declined", "over_day_amount", "late", "revoked", "exempt", "story_paid"):
        order, problem = read(written)
        assert problem is None
        assert refusal(day[0], order) is None


def test_an_order_for_a_day_is_for_today_or_too_far_away(day: tuple[Cast, list[Written]]) -> None:
    today = NOW.date()  # noon in Seoul
    for kind, ahead in (("dated_today", 0), ("dated_too_far", 400)):
        for written in of(day, kind):
            order, problem = read(written)
            assert (problem, refusal(day[0], order)) == (None, None)
            assert order.requested_execution_date == today + timedelta(days=ahead)


@pytest.mark.parametrize("kind", SIGNATURE_KINDS)
def test_a_bad_signature_is_refused_for_its_own_reason(day: tuple[Cast, list[Written]], kind: str) -> None:
    assert {read(w)[1] for w in of(day, kind)} == {SIGNATURE_KINDS[kind]}


@pytest.mark.parametrize("kind", CONSENT_KINDS)
def test_a_forbidden_order_is_refused_for_its_own_reason(day: tuple[Cast, list[Written]], kind: str) -> None:
    for written in of(day, kind):
        order, problem = read(written)
        assert problem is None
        assert refusal(day[0], order) == CONSENT_KINDS[kind]


def test_a_repeated_order_is_the_same_bytes_and_a_reused_id_is_not(day: tuple[Cast, list[Written]]) -> None:
    written = day[1]
    for again in of(day, "repeated", "id_reused"):
        first = next(w for w in written if w.planned.order_id == again.planned.order_id)
        assert first.planned.kind in PAID
        assert first.record.key == again.record.key
        assert (first.record.value == again.record.value) == (again.planned.kind == "repeated")


@pytest.mark.parametrize(("kind", "end"), [("malformed", Nobodys), ("faulty", Faulty), ("odd_headers", Authentic)])
def test_every_way_to_spoil_an_order_ends_it_as_its_kind_says(
    day: tuple[Cast, list[Written]], kind: str, end: type
) -> None:
    spoilt = of(day, kind)
    assert {w.planned.spoil for w in spoilt} == set(SPOILS[kind])
    door = Door(verifier=JwsVerifier(Keys()), models={ORDER_TYPE: PaymentOrder})
    for number, written in enumerate(spoilt):
        r = written.record
        at = int(NOW.timestamp() * 1000)
        read_there = door.read(Record(r.topic, 0, number, at, r.key, r.value, tuple(r.headers)), NOW)
        assert isinstance(read_there, end), written.planned.spoil
        assert (written.order is None) is (kind != "odd_headers")
    if kind == "malformed":
        secret = next(w for w in spoilt if w.planned.spoil == "a card number")
        assert contains_secret(secret.record.value)


def test_every_kind_has_an_end_and_a_word_for_people() -> None:
    assert all(kind.ends and kind.told for kind in KINDS.values())
    assert {Ending.UNKNOWN} & {e for kind in KINDS.values() for e in kind.ends} == set()


def read(written: Written) -> tuple[PaymentOrder, ReasonCode | None]:
    """Read a record as the intake does."""
    record = written.record
    envelope = read_envelope(record.headers)
    if envelope.type != ORDER_TYPE:
        raise EnvelopeError("ce_type", "is another")
    order = decode(PaymentOrder, record.value)
    if record.key != order.consent_id.encode():
        raise LookupError("key")
    keys = Keys()
    if not keys.partner_exists(order.partner_id):
        raise LookupError("partner")
    signed = JwsVerifier(keys).authenticate(body=record.value, signature=envelope.signature, type_=ORDER_TYPE, now=NOW)
    if isinstance(signed, Reason):
        return order, signed.code
    return order, None if signed.partner_id == order.partner_id else ReasonCode.DS19


def refusal(cast: Cast, order: PaymentOrder) -> ReasonCode | None:
    """Judge an order by its consent, as the gateway does."""
    shops = {m.merchant_id: m for m in merchants(frozenset((NetworkId("bcard"),)))}
    customer = next((c for c in cast.customers if c.terms.consent_id == order.consent_id), None)
    status = ConsentStatus.SUSP if customer and customer.role is Role.SUSPENDED else ConsentStatus.AUTH
    consent = Consent(customer.terms, 1, status) if customer else None
    reason = refuse_order(order, consent=consent, merchant=shops.get(order.merchant_id), now=NOW)
    return reason.code if reason else None


def test_planned_orders_show_no_secret() -> None:
    planned: Planned = plan(500, cast_of(500), 1)[0]
    assert not contains_secret(repr(planned).encode())


def test_refunds_are_of_earlier_payments_and_only_the_last_is_too_large(day: tuple[Cast, list[Written]]) -> None:
    _, written = day
    bought = {w.planned.order_id: w for w in written if w.planned.kind in PAID}
    given: Counter[str] = Counter()
    for refund in [w for w in written if w.planned.refund_of is not None]:
        original = bought[refund.planned.refund_of or ""]
        assert original.planned.wave is Wave.MAIN
        assert refund.order is not None
        assert original.order is not None
        message = decode(PaymentRefund, refund.record.value)
        assert message.original_payment_id == original.order.payment_id == refund.order.original_payment_id
        assert (message.consent_id, message.amount.currency) == (original.order.consent_id, original.order.currency)
        envelope = read_envelope(refund.record.headers)
        checked = {"body": refund.record.value, "signature": envelope.signature, "now": NOW}
        signed = JwsVerifier(Keys()).authenticate(type_=REFUND_TYPE, **checked)  # type: ignore[arg-type]
        assert signed == Signed(message.partner_id)
        fits = given[original.planned.order_id] + message.amount.minor <= original.order.amount_minor
        assert fits is (refund.planned.kind == "refund_part")
        given[original.planned.order_id] += message.amount.minor * fits
    assert len(given) == counts_of(3000)["refund_over"]


def test_cancellations_name_their_orders(day: tuple[Cast, list[Written]]) -> None:
    cast, written = day
    planned = [w.planned for w in written if w.planned.kind in ("cancelled", "cancelled_first")]
    assert {p.wave for p in planned} == {Wave.RETURNED}
    writer = OrderWriter(cast, planned)
    for order in planned:
        record = writer.cancel(order, NOW)
        message = decode(PaymentCancellation, record.value)
        assert (message.partner_id, message.consent_id, message.order_id) == (
            order.partner_id,
            order.consent_id,
            order.order_id,
        )
        assert (record.topic, record.key) == ("mypay.orders", order.consent_id.encode())
