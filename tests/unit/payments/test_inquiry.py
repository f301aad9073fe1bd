"""Inquiries on fakes: asked until the network tells; what asking does not settle is reversed."""

import asyncio
from dataclasses import replace

import pytest

from gateway.base.errors import StoreUnavailableError
from gateway.consents.rules.limits import Usage
from gateway.network.exchange import FinancialRequest, InquiryRequest, NetworkRequest, ReversalRequest
from gateway.payments.unknown.verdicts import UnknownPolicy
from gateway.proving.memory import Behaviour, Fate
from schemas.consents import Period, PeriodLimit
from tests.support.builders import dispatched_record, numbered_order
from tests.support.domain_samples import consent, krw, purpose
from tests.support.rig import Rig

AWAY = StoreUnavailableError("away")
LOST = Behaviour(Fate.ANSWER_LOST)
NEVER_ARRIVED = Behaviour(Fate.REQUEST_LOST)


async def unknown(first: Behaviour) -> Rig:
    """Order 1 was sent to a network that is asked what became of it; the way of its 0200 was ``first``."""
    rig = Rig(lambda _: first)
    limits = (PeriodLimit(period=Period.DAY, max_amount=krw(25_000)),)
    rig.database.put_consent(consent(payment=purpose(period_limits=limits)))
    rig.execution = rig.new_execution(policy=UnknownPolicy.INQUIRE)
    await rig.execute([dispatched_record(numbered_order(1))])
    assert rig.states() == {"order-1": "unknown"}
    assert (len(rig.database.inquiries.rows), rig.database.reversals.rows) == (1, {})
    assert rig.used() == {Usage(10_000, 1)}
    rig.network.script = lambda _: Behaviour()
    return rig


def asked(rig: Rig) -> list[InquiryRequest]:
    return [r for r in rig.host.received if isinstance(r, InquiryRequest)]


async def test_an_approval_whose_answer_was_lost_is_found_and_the_sale_is_kept() -> None:
    rig = await unknown(LOST)
    inquiries = rig.new_inquiries("w1")
    assert await inquiries.work() == 1
    assert await inquiries.work() == 0
    assert rig.states() == {"order-1": "approved"}
    assert rig.used() == {Usage(10_000, 1)}
    assert rig.ledger_kinds() == ["authorised"]
    assert rig.told() == ["payment.sent", "payment.unknown", "payment.approved"]
    (inquiry,) = asked(rig)
    sent = rig.host.received[0]
    assert isinstance(sent, FinancialRequest)
    assert inquiry.original == sent.trace
    assert (inquiry.trace.terminal_id, inquiry.trace.rrn) == (sent.trace.terminal_id, sent.trace.rrn)
    assert inquiry.trace.stan > 500_000
    assert rig.payment(1).approval_code is not None
    assert rig.payment(1).reason is None
    assert rig.database.reversals.rows == {}


async def test_a_refusal_whose_answer_was_lost_is_found() -> None:
    rig = await unknown(replace(LOST, code="51"))
    await rig.new_inquiries("w1").work()
    assert rig.states() == {"order-1": "declined"}
    assert rig.used() == {Usage()}
    assert rig.payment(1).reason is not None


async def test_what_the_network_never_saw_is_reversed_for_it_may_still_arrive() -> None:
    rig = await unknown(NEVER_ARRIVED)
    await rig.new_inquiries("w1").work()
    assert rig.states() == {"order-1": "unknown"}
    assert rig.told() == ["payment.sent", "payment.unknown", "payment.unknown"]
    assert await rig.reversals.work() == 1
    assert rig.states() == {"order-1": "reversed"}
    assert rig.used() == {Usage()}
    # Should it arrive now, the network refuses it.
    original = rig.host.handle(_sent(rig))
    assert original.response_code == "12"


def _sent(rig: Rig) -> FinancialRequest:
    payment = rig.payment(1)
    (reversal,) = [r for r in rig.host.received if isinstance(r, ReversalRequest)]
    assert payment.trace
    return FinancialRequest(
        payment.trace, payment.operation, payment.amount_minor, payment.currency, reversal.acceptor, reversal.card
    )


async def test_it_is_asked_with_growing_pauses_until_the_deadline_and_then_reversed() -> None:
    rig = await unknown(LOST)
    rig.network.script = lambda r: replace(LOST) if isinstance(r, InquiryRequest) else Behaviour()
    inquiries = rig.new_inquiries("w1")
    for pause_s in (5, 10, 20, 20, 20):
        assert await inquiries.work() == 1
        assert rig.states() == {"order-1": "unknown"}
        rig.clock.advance(pause_s - 1)
        assert await inquiries.work() == 0
        rig.clock.advance(1)
    assert await inquiries.work() == 1  # 75 s old, past the deadline of 60: this answer's absence ends it
    assert len(rig.database.reversals.rows) == 1
    assert len({(i.trace.stan, i.trace.transmitted_at) for i in asked(rig)}) == 1
    rig.clock.advance(500)
    assert await inquiries.work() == 0
    await rig.reversals.work()
    assert rig.states() == {"order-1": "reversed"}


@pytest.mark.parametrize("code", ["12", "40", "30"])
async def test_a_network_that_refuses_to_be_asked_gets_the_reversal(code: str) -> None:
    rig = await unknown(LOST)
    rig.network.script = lambda r: _inquiries_end_with(r, code)
    await rig.new_inquiries("w1").work()
    assert rig.states() == {"order-1": "unknown"}
    rig.network.script = lambda _: Behaviour()
    await rig.reversals.work()
    assert (rig.states(), rig.host.standing_minor()) == ({"order-1": "reversed"}, {})


def _inquiries_end_with(request: NetworkRequest, code: str) -> Behaviour:
    if isinstance(request, InquiryRequest):
        return Behaviour(alter=lambda answer: replace(answer, response_code=code, approval_code=None))
    return Behaviour()


async def test_an_answer_with_another_amount_is_an_incident_and_reversed() -> None:
    rig = await unknown(LOST)
    rig.network.script = lambda _: Behaviour(alter=lambda a: replace(a, amount_minor=a.amount_minor + 1))
    await rig.new_inquiries("w1").work()
    assert rig.states() == {"order-1": "unknown"}
    assert len(rig.database.reversals.rows) == 1
    assert rig.observer.counted("inquiry", "incident") == 1


async def test_who_lost_the_lease_settles_nothing() -> None:
    rig = await unknown(LOST)
    rig.faults.hold("payments.lock", visit=1)
    slow = asyncio.create_task(rig.new_inquiries("slow").work())
    await rig.faults.reached("payments.lock")
    rig.clock.advance(61)
    rig.network.script = lambda _: Behaviour(alter=lambda a: replace(a, response_code="25"))
    assert await rig.new_inquiries("w2").work() == 1
    assert len(rig.database.reversals.rows) == 1
    rig.faults.open("payments.lock")
    await slow
    # The slow one had learnt of an approval; the reversal is on its way.
    assert rig.states() == {"order-1": "unknown"}


@pytest.mark.parametrize(
    "place", ["inquiries.claim", "payments.find", "inquiries.close", "payments.lock", "store.commit"]
)
async def test_an_outage_is_waited_out_in_place(place: str) -> None:
    rig = await unknown(LOST)
    rig.faults.plan(place, AWAY)
    assert await rig.new_inquiries("w1").work() == 1
    assert rig.faults.pending == 0
    assert len(asked(rig)) == 1
    assert rig.told() == ["payment.sent", "payment.unknown", "payment.approved"]


async def test_an_inquiry_needs_no_card() -> None:
    """It names none: a token that does not open costs no sale."""
    rig = await unknown(LOST)
    rig.vault.cards.clear()
    assert await rig.new_inquiries("w1").work() == 1
    assert rig.states() == {"order-1": "approved"}


async def test_one_payment_that_cannot_be_written_takes_no_other_with_it() -> None:
    """Its windows hold nothing to give back: a bug that the database's rule stops. It is asked about again."""
    rig = await unknown(replace(LOST, code="51"))
    rig.database.put_consent(consent(consent_id="second", payment=purpose()))
    rig.network.script = lambda _: LOST
    await rig.execute([dispatched_record(numbered_order(2, consent_id="second"))])
    rig.network.script = lambda _: Behaviour()
    broken = rig.payment(1)
    for window in broken.windows:
        rig.database.usage.rows[broken.partner_id, broken.consent_id, window] = Usage()
    inquiries = rig.new_inquiries("w1")
    assert await inquiries.work() == 2
    assert rig.states() == {"order-1": "unknown", "order-2": "approved"}
    assert rig.database.inquiries.rows[broken.key].closed_at is None
    assert rig.observer.counted("inquiry", "unwritable") == 1
    assert await inquiries.work() == 0
    rig.clock.advance(61)
    assert await inquiries.work() == 1
