"""The gateway's own parts, without its features: the published contract, the client of card networks, trace numbers."""

import asyncio
import itertools
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import uuid_utils

from gateway.messaging.records import Outgoing
from gateway.network.exchange import (
    Acceptor,
    Answered,
    CardData,
    ExchangeResult,
    FinancialRequest,
    Operation,
    TraceNumbers,
)
from gateway.network.iso8583.config import NetworkConfig, load_network
from gateway.network.iso8583.pool import Iso8583Network
from gateway.network.trace import PAYMENT_STANS, payment_trace
from gateway.proving.bench.lean.pipeline import Answer, Headers, Order, Trace
from schemas.codec import decode, encode
from schemas.envelope import Envelope, read_envelope, write_envelope
from schemas.events import EventType, PaymentEvent
from schemas.orders import PaymentOrder
from schemas.primitives import MerchantId, Money, PartnerId, payment_id_of
from schemas.reasons import PaymentStatus

_CARD: Final = CardData("9490000000000009", "3012")
"""One for all: no vault is asked, and no directory for the shop."""

_ACCEPTOR: Final = Acceptor("KR0000000000001", f"{'A shop':<25}{'Seoul':<13}KR", "5411")
_TERMINALS: Final = 4
"""That one worker uses in turn."""

_SEND_WITHIN_S: Final = 30.0
_DRAIN_S: Final = 5.0


class UnansweredError(OSError):
    """The network did not answer one of the requests."""


class PartsForm:
    """Implements :class:`gateway.proving.bench.lean.pipeline.Form`. Get it from :func:`connect`."""

    def __init__(self, network: Iso8583Network, config: NetworkConfig, worker: int) -> None:
        self._network = network
        self._terminals = config.terminals.ids
        self._numbers = itertools.count(worker * _TERMINALS * PAYMENT_STANS + 1)
        self._traces: dict[str, TraceNumbers] = {}

    def read(self, value: bytes, headers: Headers) -> Order:
        """See the protocol."""
        read_envelope(headers)
        order = decode(PaymentOrder, value)
        amount = order.amount
        return Order(
            order.partner_id, order.order_id, order.consent_id, order.merchant_id, amount.minor, amount.currency
        )

    def trace(self, now: datetime) -> Trace:
        """See the protocol."""
        numbers = payment_trace(next(self._numbers), self._terminals, now)
        self._traces[numbers.rrn] = numbers
        return Trace(numbers.stan, numbers.rrn)

    async def purchase(self, asked: Sequence[tuple[Order, Trace]], now: datetime) -> Sequence[Answer]:  # noqa: ARG002
        """See the protocol."""
        loop = asyncio.get_running_loop()
        complete: asyncio.Future[None] = loop.create_future()
        results: list[ExchangeResult | None] = [None] * len(asked)
        missing = len(asked)

        def done(number: int, result: ExchangeResult) -> None:
            nonlocal missing
            results[number] = result
            missing -= 1
            if not missing and not complete.done():
                complete.set_result(None)

        send_before = loop.time() + _SEND_WITHIN_S
        places = 0
        for number, (order, trace) in enumerate(asked):
            if not places:
                places = await self._network.reserve(len(asked) - number)
            places -= 1
            request = FinancialRequest(
                self._traces.pop(trace.rrn), Operation.PURCHASE, order.amount_minor, order.currency, _ACCEPTOR, _CARD
            )
            self._network.submit(request, send_before=send_before, done=lambda r, n=number: done(n, r))  # type: ignore[misc]
        await complete
        return [_answer(result) for result in results]

    def tell(self, order: Order, trace: Trace, answer: Answer, topic: str, now: datetime) -> Outgoing:
        """See the protocol."""
        approved = answer.response_code == "00"
        event = PaymentEvent(
            payment_id=payment_id_of(order.partner_id, order.order_id),
            version=1,
            partner_id=PartnerId(order.partner_id),
            order_id=order.order_id,
            consent_id=order.consent_id,
            status=PaymentStatus.ACSP if approved else PaymentStatus.RJCT,
            state="approved" if approved else "declined",
            amount=Money.of(order.amount_minor, order.currency),
            merchant_id=MerchantId(order.merchant_id),
            occurred_at=now,
            rrn=trace.rrn,
            approval_code=answer.approval_code,
        )
        type_ = EventType.PAYMENT_APPROVED if approved else EventType.PAYMENT_DECLINED
        envelope = Envelope(str(uuid_utils.uuid7()), "/mypay", type_, now)
        return Outgoing(topic, str(event.payment_id).encode(), encode(event), write_envelope(envelope))

    async def stop(self) -> None:
        """Sign off and hang up."""
        await self._network.stop(drain_seconds=_DRAIN_S)


def _answer(result: ExchangeResult | None) -> Answer:
    if not isinstance(result, Answered):
        raise UnansweredError("the network did not answer")
    return Answer(result.response_code, result.approval_code)


async def connect(file: Path, worker: int) -> PartsForm:
    """Connect and sign on.

    Args:
        file: the network's, as the gateway has it.
        worker: 0, 1, 2 …: no two share trace numbers.
    """
    config = load_network(file)
    network = Iso8583Network(config, on_unmatched=lambda _: None)
    await network.start()
    await network.wait_open()
    return PartsForm(network, config, worker)
