"""What the API reads and writes: pages, tokens, certificates and when customers last asked."""

from datetime import date
from uuid import UUID

from gateway.app.registries import open_registries
from gateway.database.unit import Store
from gateway.network.exchange import Operation
from gateway.payments.rules.lifecycle import PaymentState
from gateway.portability.api.rules.calls import Position, Span, first_position
from gateway.portability.rules.records import Recipient
from schemas.primitives import ConsentId, CustomerId, PartnerId
from tests.contract.conftest import Backend, MemoryBackend, PostgresBackend
from tests.support.builders import NOW, later, payment
from tests.support.domain_samples import consent, merchant

P1, CUSTOMER = PartnerId("partner-1"), CustomerId("customer-1")
KEY = (P1, ConsentId("consent-1"))
ORG, SHOWN = "A1AAAA0000", "ab" * 32
SPAN = Span(date(2025, 5, 1), date(2025, 5, 31), 500)


async def put_recipient(backend: Backend) -> None:
    match backend:
        case MemoryBackend():
            backend.database.recipients.rows[ORG] = Recipient(ORG, True, None)
            backend.database.certificates.rows[SHOWN] = ORG
        case PostgresBackend():
            async with open_registries(backend.dsn) as registries:
                assert await registries.recipients.add(ORG, "A bank")
                assert await registries.recipients.set_certificate(ORG, SHOWN)
                assert not await registries.recipients.set_certificate("B2BBBB0000", "cd" * 32)


async def test_a_recipient_is_known_by_its_certificate(backend: Backend) -> None:
    await put_recipient(backend)
    async with backend.store.reading() as uow:
        assert await uow.pulls.recipient(SHOWN) == Recipient(ORG, True, None)
        assert await uow.pulls.recipient("cd" * 32) is None


async def test_the_last_access_is_the_latest_one(backend: Backend) -> None:
    await put_recipient(backend)
    for at in (5, 3, 9, 7):
        async with backend.store.transaction() as uow:
            await uow.pulls.access(KEY, ORG, later(at))
    async with backend.store.reading() as uow:
        assert await uow.pulls.accessed_at(KEY, ORG) == later(9)
        assert await uow.pulls.accessed_at(KEY, "B2BBBB0000") is None
        assert await uow.pulls.accessed_at((P1, ConsentId("consent-2")), ORG) is None


async def test_pages_hold_each_payment_of_the_customer_once(backend: Backend) -> None:
    await backend.put_consents(
        consent(), consent(consent_id="second"), consent(consent_id="theirs", customer_id="customer-2")
    )
    await backend.put_merchants(merchant())
    await backend.put_token("token-3", "customer-1", "partner-1")
    mine = [
        payment(
            n,
            consent_id="second" if n % 3 else "consent-1",
            state=PaymentState.APPROVED,
            funding_token="token-3" if n % 2 else "token-1",
            decided_at=later(n // 4),
            changed_at=later(n),
        )
        for n in range(20)
    ]
    old = [payment(50, decided_at=later(-60 * 86_400)), payment(51, decided_at=later(60 * 86_400))]
    async with backend.store.transaction() as uow:
        await uow.payments.insert([*mine, *old, payment(90, consent_id="theirs"), payment(91, partner_id="partner-2")])
    store: Store = backend.store
    found: list[str] = []
    after = first_position(SPAN)
    while True:
        async with store.reading() as uow:
            page = await uow.pulls.page(P1, CUSTOMER, SPAN, after=after, token=None, limit=6)
        if not page:
            break
        found.extend(f.payment_id for f in page)
        after = Position(page[-1].decided_at, UUID(page[-1].payment_id))
    expected = sorted(mine, key=lambda p: (p.decided_at, p.payment_id), reverse=True)
    assert found == [str(p.payment_id) for p in expected]
    async with store.reading() as uow:
        some = await uow.pulls.page(P1, CUSTOMER, SPAN, after=first_position(SPAN), token="token-3", limit=99)
        assert {f.payment_id for f in some} == {str(p.payment_id) for p in mine if p.funding_token == "token-3"}
        since = Span(SPAN.first, SPAN.last, 9, later(17))
        late = await uow.pulls.page(P1, CUSTOMER, since, after=first_position(since), token=None, limit=99)
        assert sorted(f.changed_at for f in late) == [later(18), later(19)]
        assert {f.mcc for f in late} == {"5411"}


async def test_a_purchase_that_a_refund_corrected_has_changed(backend: Backend) -> None:
    await backend.put_consents(consent())
    paid, other = (payment(n, state=PaymentState.SETTLED, changed_at=later(n)) for n in (1, 2))
    back = payment(
        3, operation=Operation.REFUND, original_payment_id=paid.payment_id, state=PaymentState.APPROVED,
        amount_minor=7, decided_at=later(60 * 86_400), changed_at=later(9),
    )  # fmt: skip
    async with backend.store.transaction() as uow:
        await uow.payments.insert([paid, other, back])
    async with backend.store.reading() as uow:
        for since, found in ((8, [(str(paid.payment_id), 7)]), (9, [])):
            span = Span(SPAN.first, SPAN.last, 9, later(since))
            page = await uow.pulls.page(P1, CUSTOMER, span, after=first_position(span), token=None, limit=99)
            assert [(f.payment_id, f.refunded_minor) for f in page] == found


async def test_tokens_are_their_customer_s(backend: Backend) -> None:
    await backend.put_consents(consent())
    await backend.put_token("token-4", "customer-1", "partner-1")
    await backend.put_token("token-5", "customer-2", "partner-1")
    async with backend.store.transaction() as uow:
        await uow.payments.insert([payment(1, decided_at=NOW)])
    async with backend.store.reading() as uow:
        assert sorted(await uow.pulls.tokens(CUSTOMER)) == ["token-1", "token-4"]
        assert await uow.pulls.used_tokens(P1, CUSTOMER) == ["token-1"]
        assert await uow.pulls.used_tokens(PartnerId("partner-2"), CUSTOMER) == []
