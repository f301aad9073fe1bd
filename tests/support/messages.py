"""One good message of every kind, for the tests of the contract."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from schemas.bulk import Acceptance, BulkEvent, BulkItem, BulkStatus, ControlSum, PaymentBulk, RejectedItem
from schemas.cancellation import PaymentCancellation
from schemas.clearing import ClearingBatch, ClearingKind, ClearingRecord
from schemas.consent_commands import ConsentAmendment, ConsentInstruction, ConsentRequest
from schemas.consents import (
    Alignment,
    Channel,
    ConsentStatus,
    ConsentTerms,
    Cycle,
    LowValueExemption,
    MarketingPurpose,
    Payees,
    PaymentPurpose,
    Period,
    PeriodLimit,
    PortabilityPurpose,
    PortabilityScope,
    SharingField,
    SharingPurpose,
)
from schemas.disclosure import DataDestroyed, DisclosedTo, DisclosureNotice, DisclosureRoot, DisclosuresDestroyed
from schemas.events import (
    CancellationAccepted,
    CancellationEffect,
    CancellationRefused,
    ConsentEvent,
    ConsentOffered,
    ConsentRefused,
    ConsentShared,
    CycleSettled,
    MerchantPosition,
    OrderRefused,
    PaymentEvent,
)
from schemas.marketing import (
    AggregateCell,
    AggregateTable,
    OfferEnd,
    OfferGranted,
    OfferUse,
    OfferUseCounted,
    OfferUseRefused,
    OfferWithdrawn,
)
from schemas.orders import OccurrenceOrder, PaymentOrder
from schemas.portability import (
    ExportChunk,
    ExportComplete,
    ExportVoid,
    PortabilityEvent,
    PortabilityRequest,
    TargetInfo,
)
from schemas.primitives import Model, Money, payment_id_of
from schemas.reasons import PaymentStatus, Reason, ReasonCode
from schemas.refunds import PaymentRefund
from schemas.sharing import (
    CustomerName,
    EraseCause,
    EraseNotice,
    ErasureConfirmed,
    PaymentShared,
    SharedData,
    ShareUse,
    SharingUse,
)
from schemas.standing import (
    Frequency,
    StandingOrderCancel,
    StandingOrderCreate,
    StandingOrderEvent,
    StandingOrderRefused,
    StandingSchedule,
    StandingStatus,
)

NOW = datetime(2026, 3, 2, 3, 4, 5, 678000, tzinfo=UTC)
PAYMENT_ID = payment_id_of("acme", "order-1")

ORDER = PaymentOrder(
    partner_id="acme",
    order_id="order-1",
    consent_id="consent-1",
    merchant_id="cafe-1",
    amount=Money.of(12_500, "KRW"),
    issued_at=NOW,
    expires_at=NOW + timedelta(minutes=10),
)
PORTABILITY = PortabilityPurpose(
    recipients=("A1AAAA0000",),
    scopes=(PortabilityScope.CARD_LIST, PortabilityScope.CARD_APPROVAL, PortabilityScope.PAID_TRANSACTION),
    is_scheduled=True,
    fnd_cycle=Cycle.MONTHLY,
    add_cycle=Cycle.WEEKLY,
    end_date=date(2027, 2, 28),
    purpose="household accounts",
    period=date(2028, 2, 28),
    is_consent_merchant_name_regno=True,
)
SHARING = SharingPurpose(
    affiliates=("acme-points",),
    purposes=("loyalty",),
    fields=(SharingField.CATEGORY, SharingField.AMOUNT_BAND, SharingField.MONTH),
    use_until=NOW + timedelta(days=300),
)
MARKETING = MarketingPurpose(
    affiliates=("acme-points",), channels=(Channel.APP, Channel.EMAIL), until=NOW + timedelta(days=300)
)
CONSENT = ConsentTerms(
    consent_id="consent-1",
    partner_id="acme",
    customer_id="customer-1",
    valid_from=NOW,
    valid_until=NOW + timedelta(days=365),
    payment=PaymentPurpose(
        funding_token="tok-1",
        payees=Payees(allow_categories=("5812",), block_merchants=("casino-1",)),
        max_per_payment=(Money.of(100_000, "KRW"), Money.of(9_999, "USD")),
        period_limits=(
            PeriodLimit(period=Period.MONTH, max_amount=Money.of(1_000_000, "KRW")),
            PeriodLimit(period=Period.DAY, alignment=Alignment.CONSENT, max_count=10),
        ),
        lifetime_amounts=(Money.of(10_000_000, "KRW"),),
        lifetime_count=1000,
        low_value_exemption=LowValueExemption(
            max_amount=Money.of(10_000, "KRW"), max_count=5, max_sum=Money.of(50_000, "KRW")
        ),
    ),
    sharing=SHARING,
    marketing=MARKETING,
)
COMMAND: dict[str, Any] = {
    "partner_id": "acme",
    "consent_id": "consent-1",
    "command_id": "command-1",
    "issued_at": NOW,
}
CANCELLATION: dict[str, Any] = {
    "partner_id": "acme",
    "cancellation_id": "cancellation-1",
    "consent_id": "consent-1",
    "order_id": "order-1",
}
STANDING: dict[str, Any] = {"partner_id": "acme", "standing_order_id": "rent", "consent_id": "consent-1"}
RECORD = ClearingRecord(
    record_no=1,
    kind=ClearingKind.PURCHASE,
    rrn="606100000001",
    stan=1,
    terminal_id="GW000000",
    acceptor_id="CAFE1",
    amount_minor=12_500,
    currency="KRW",
    approval_code="A00001",
)

TRANSMISSION = PortabilityRequest(
    partner_id="acme",
    consent_id="consent-1",
    request_id="request-1",
    issued_at=NOW,
    snd_org_code="MYPAY00000",
    rcv_org_code="A1AAAA0000",
    is_scheduled=True,
    fnd_cycle=Cycle.MONTHLY,
    add_cycle=Cycle.WEEKLY,
    end_date=date(2027, 2, 28),
    purpose="household accounts",
    period=date(2028, 2, 28),
    target_info=(TargetInfo(scope=PortabilityScope.CARD_APPROVAL),),
    search_timestamp="20260101000000",
)

EXAMPLES: tuple[Model, ...] = (
    ORDER,
    TRANSMISSION,
    PortabilityEvent(
        partner_id="acme",
        consent_id="consent-1",
        request_id="request-1",
        status="delivered",
        rcv_org_code="A1AAAA0000",
        export_id="E-1",
        records=12,
        chunks=5,
        x_api_tran_id="MYPAY00000ABCDEFGHIJKLMN1",
        receipt="e30.e30.AAAA",
        reference="mypay.portability.requests/3/1207",
        occurred_at=NOW,
    ),
    ExportChunk(export_id="E-1", attempt=1, chunk=1, jwe="e30..AAAA.AAAA.AAAA"),
    ExportComplete(export_id="E-1", attempt=1, receipt="e30.e30.AAAA"),
    ExportVoid(
        export_id="E-1",
        attempt=1,
        reason=Reason(code=ReasonCode.MD01, text="the consent is revoked"),
        occurred_at=NOW,
    ),
    PaymentCancellation(
        **CANCELLATION, issued_at=NOW, expires_at=NOW + timedelta(minutes=10), reason_text="ordered twice"
    ),
    PaymentRefund(
        partner_id="acme",
        order_id="refund-1",
        consent_id="consent-1",
        original_order_id="order-1",
        amount=Money.of(2_500, "KRW"),
        issued_at=NOW,
        expires_at=NOW + timedelta(minutes=10),
    ),
    CancellationAccepted(
        **CANCELLATION,
        payment_id=PAYMENT_ID,
        effect=CancellationEffect.REVERSING,
        reference="mypay.orders/3/1208",
        occurred_at=NOW,
    ),
    CancellationRefused(
        **CANCELLATION,
        payment_id=PAYMENT_ID,
        reason=Reason(code=ReasonCode.TM01, text="settled: refund it instead"),
        reference="mypay.orders/3/1208",
        occurred_at=NOW,
    ),
    OccurrenceOrder(
        **(ORDER.model_dump() | {"amount": ORDER.amount, "order_id": "rent+20260302"}),
    ),
    PaymentBulk(
        partner_id="acme",
        bulk_id="bulk-1",
        acceptance=Acceptance.PARTIAL,
        number_of_transactions=1,
        control_sum=ControlSum(currency="KRW", value="2500"),
        items=(
            BulkItem(order_id="order-9", consent_id="consent-1", merchant_id="cafe-1", amount=Money.of(2_500, "KRW")),
        ),
        issued_at=NOW,
        expires_at=NOW + timedelta(minutes=10),
    ),
    BulkEvent(
        partner_id="acme",
        bulk_id="bulk-1",
        status=BulkStatus.ACCEPTED,
        number_of_transactions=2,
        accepted=1,
        rejected=(RejectedItem(item=2, order_id="order-10", reason=Reason(code=ReasonCode.AC03, text="not there")),),
        reference="mypay.orders/3/1210",
        occurred_at=NOW,
    ),
    StandingOrderCreate(
        **STANDING,
        merchant_id="cafe-1",
        amount=Money.of(2_500, "KRW"),
        schedule=StandingSchedule(frequency=Frequency.MONTHLY, first_date=date(2026, 3, 31), count=12),
        issued_at=NOW,
        expires_at=NOW + timedelta(minutes=10),
    ),
    StandingOrderCancel(**STANDING, issued_at=NOW),
    StandingOrderEvent(
        **STANDING,
        merchant_id="cafe-1",
        amount=Money.of(2_500, "KRW"),
        status=StandingStatus.ACTIVE,
        version=1,
        occurrences=0,
        next_date=date(2026, 3, 31),
        occurred_at=NOW,
    ),
    StandingOrderRefused(
        **STANDING,
        reason=Reason(code=ReasonCode.DT01, text="the first occurrence lies before issued_at"),
        reference="mypay.orders/3/1209",
        occurred_at=NOW,
    ),
    CONSENT,
    ClearingBatch(network_id="bcard", cycle_id="20260302-0001", chunk=1, records=(RECORD,)),
    PaymentEvent(
        payment_id=PAYMENT_ID,
        version=2,
        partner_id="acme",
        order_id="order-1",
        consent_id="consent-1",
        status=PaymentStatus.ACSP,
        state="approved",
        amount=Money.of(12_500, "KRW"),
        merchant_id="cafe-1",
        occurred_at=NOW,
        network_id="bcard",
        rrn="606100000001",
        approval_code="A00001",
    ),
    PaymentEvent(
        payment_id=PAYMENT_ID,
        version=1,
        partner_id="acme",
        order_id="order-1",
        consent_id="consent-1",
        status=PaymentStatus.RJCT,
        state="rejected",
        amount=Money.of(1_050, "USD"),
        merchant_id="cafe-1",
        occurred_at=NOW,
        reason=Reason(code=ReasonCode.SL14, text="over the month's limit", network_code="61"),
    ),
    OrderRefused(
        partner_id="acme",
        order_id="order-1",
        payment_id=None,
        reason=Reason(code=ReasonCode.DS0B, text="header signature is missing"),
        reference="mypay.orders/3/1207",
        occurred_at=NOW,
    ),
    ConsentEvent(
        consent_id="consent-1",
        version=1,
        partner_id="acme",
        status=ConsentStatus.CANC,
        occurred_at=NOW,
        change=3,
        command="revoke",
        command_id="revoke-1",
        actor="partner",
        terms_digest="0" * 64,
        in_flight=(PAYMENT_ID, UUID(int=1)),
    ),
    OfferGranted(
        offer_id=PAYMENT_ID,
        campaign_id="spring",
        affiliate_id="acme-bank",
        customer="c" * 27,
        key_id="20260101-abc",
        channels=(Channel.APP,),
        worth=Money.of(5_000, "KRW"),
        uses_max=1,
        granted_at=NOW,
        expires_at=NOW + timedelta(days=14),
    ),
    OfferWithdrawn(
        offer_id=PAYMENT_ID,
        campaign_id="spring",
        affiliate_id="acme-bank",
        cause=OfferEnd.REVOKED,
        withdrawn_at=NOW,
    ),
    OfferUse(use_id="use-1", offer_id=PAYMENT_ID, affiliate_id="acme-bank", amount=Money.of(4_000, "KRW"), used_at=NOW),
    OfferUseCounted(
        use_id="use-1", offer_id=PAYMENT_ID, affiliate_id="acme-bank", amount=Money.of(4_000, "KRW"), occurred_at=NOW
    ),
    OfferUseRefused(
        use_id="use-1",
        offer_id=PAYMENT_ID,
        affiliate_id="acme-bank",
        reason=Reason(code=ReasonCode.MD01, text="the customer permits this offer no more"),
        occurred_at=NOW,
    ),
    AggregateTable(
        week="2026-W48",
        currency="KRW",
        revision=1,
        k=10,
        cells=(
            AggregateCell(customers=31, payments=120, amount=Money.of(2_400_000, "KRW")),
            AggregateCell(category="5411", region="Busan", suppressed=True),
        ),
        published_at=NOW,
    ),
    ConsentOffered(
        partner_id="acme",
        consent_id="consent-1",
        consent_version=1,
        offer_id=PAYMENT_ID,
        campaign_id="spring",
        affiliate_id="acme-bank",
        channels="app sms",
        expires_at=NOW + timedelta(days=14),
        occurred_at=NOW,
    ),
    ConsentRefused(
        partner_id="acme",
        consent_id="consent-1",
        command="resume",
        command_id="resume-1",
        status=ConsentStatus.CANC,
        reason=Reason(code=ReasonCode.MD01, text="the consent is revoked"),
        reference="mypay.consents.commands/3/1207",
        occurred_at=NOW,
    ),
    ConsentRequest(**COMMAND, terms=CONSENT),
    ConsentAmendment(**COMMAND, terms=CONSENT, authentication="a.b.c"),
    ConsentInstruction(**COMMAND, authentication="a.b.c"),
    DisclosureRoot(number=7, statement="eyJhbGciOiJFUzI1NiJ9.eyJudW1iZXIiOjd9.c2lnbmF0dXJl"),
    DataDestroyed(
        number=1,
        kind="transmission requests",
        rows=12,
        rule="a year without access",
        before=NOW,
        digest="A" * 43,
        occurred_at=NOW,
    ),
    DisclosuresDestroyed(
        first_seq=1,
        last_seq=5000,
        entries=5000,
        rule="retention of three years",
        before=NOW - timedelta(days=1096),
        digest="A" * 43,
        occurred_at=NOW,
    ),
    DisclosureNotice(
        partner_id="acme",
        customer_id="customer-1",
        since=NOW - timedelta(days=365),
        until=NOW,
        disclosed=(DisclosedTo(recipient="shop-1", kind="payment", purpose="payment", count=12),),
        occurred_at=NOW,
    ),
    ConsentShared(
        partner_id="acme",
        consent_id="consent-1",
        consent_version=1,
        payment_id=PAYMENT_ID,
        affiliate_id="acme-points",
        purposes="loyalty",
        legal_basis="the customer's consent",
        fields="amount_band category month",
        use_until=NOW + timedelta(days=300),
        occurred_at=NOW,
    ),
    PaymentShared(
        share_id="s" * 27,
        affiliate_id="acme-points",
        customer="c" * 27,
        key_id="20260101-abc",
        consent_ref="r" * 27,
        use_until=NOW + timedelta(days=300),
        uses=(
            ShareUse(
                purpose=SharingUse.LOYALTY,
                legal_basis="the customer's consent",
                approved_by="kim",
                data=SharedData(category="5411", amount_band="KRW 10000-50000", month="2026-03"),
            ),
        ),
        shared_at=NOW,
    ),
    EraseNotice(
        notice_id=PAYMENT_ID,
        affiliate_id="acme-points",
        consent_ref="r" * 27,
        customers=(CustomerName(key_id="20260101-abc", customer="c" * 27),),
        cause=EraseCause.ENDED,
        noticed_at=NOW,
        erase_by=NOW + timedelta(days=7),
    ),
    ErasureConfirmed(notice_id=PAYMENT_ID, affiliate_id="acme-points", erased=3, erased_at=NOW),
    CycleSettled(
        network_id="bcard",
        cycle_id="20260302-0001",
        chunk=1,
        matched=1,
        breaks=0,
        positions=(MerchantPosition(merchant_id="cafe-1", currency="KRW", count=1, net_minor=12_500),),
        occurred_at=NOW,
    ),
)
