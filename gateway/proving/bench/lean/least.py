"""The least that works: JSON as it comes, one link, answers matched by STAN, messages by pyiso8583 itself.

One dialect (``iso87-ascii``) in two-byte frames. Nothing is checked. No second link, circuit breaker or window: an
answer that does not come ends the program.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import iso8583
from pydantic_core import from_json, to_json

from gateway.messaging.records import Outgoing
from gateway.network.iso8583.wire import dialect_of
from gateway.proving.bench.lean.pipeline import Answer, Headers, Order, Trace
from schemas.primitives import NUMERIC_CODES, minor_of

_SPEC: Final = dialect_of("iso87-ascii").specs[0]
_ANSWER_TIMEOUT_S: Final = 30.0
_STANS: Final = 999_999

_ALWAYS: Final = {
    "t": "0200",
    # One card for all: no vault is asked.
    "2": "9490000000000009",
    "3": "000000",
    "14": "3012",
    "18": "5411",
    "22": "012",
    "25": "08",
    "32": "410001",
    "43": f"{'A shop, Seoul KR':40}",
}


class LeastForm(asyncio.Protocol):
    """Implements :class:`gateway.proving.bench.lean.pipeline.Form`. Get it from :func:`connect`.

    Args:
        worker: 0, 1, 2 …: no two share trace numbers.
    """

    def __init__(self, worker: int) -> None:
        self._terminal = f"LEAN{worker:04d}"
        self._transport: Any = None
        self._buffer = b""
        self._asked = 0
        self._answers: dict[str, Answer] = {}
        self._missing: set[str] = set()
        self._complete: asyncio.Future[None] | None = None

    def connection_made(self, transport: Any) -> None:
        """See asyncio."""
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        if self._complete is not None and not self._complete.done():
            self._complete.set_exception(exc or ConnectionResetError("the host closed the link"))

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        buffer = self._buffer + data
        position = 0
        while len(buffer) >= position + 2:
            end = position + 2 + int.from_bytes(buffer[position : position + 2], "big")
            if len(buffer) < end:
                break
            if end > position + 2:
                self._take(buffer[position + 2 : end])
            position = end
        self._buffer = buffer[position:]

    def _take(self, body: bytes) -> None:
        message, _ = iso8583.decode(body, _SPEC)
        if message["t"] not in {"0210", "0810"}:
            return
        stan = message["11"]
        self._answers[stan] = Answer(message["39"], message.get("38"))
        self._missing.discard(stan)
        if not self._missing and self._complete is not None and not self._complete.done():
            self._complete.set_result(None)

    def read(self, value: bytes, headers: Headers) -> Order:  # noqa: ARG002 - nobody looks at them
        """See the protocol."""
        order = from_json(value)
        amount = order["amount"]
        currency = amount["currency"]
        return Order(
            order["partner_id"],
            order["order_id"],
            order["consent_id"],
            order["merchant_id"],
            minor_of(amount["value"], currency),
            currency,
        )

    def trace(self, now: datetime) -> Trace:
        """See the protocol."""
        self._asked += 1
        stan = (self._asked - 1) % _STANS + 1
        return Trace(stan, f"{now.year % 10}{now.timetuple().tm_yday:03d}{self._terminal[-2:]}{stan:06d}")

    async def sign_on(self) -> None:
        """Exchange 0800 and 0810.

        Raises:
            TimeoutError, OSError: there is no answer.
        """
        now = datetime.now(UTC)
        stan = f"{self.trace(now).stan:06d}"
        await self._exchange({stan: {"t": "0800", "7": f"{now:%m%d%H%M%S}", "11": stan, "70": "001"}})

    async def purchase(self, asked: Sequence[tuple[Order, Trace]], now: datetime) -> Sequence[Answer]:
        """See the protocol."""
        moment = f"{now:%m%d%H%M%S}"
        always = {**_ALWAYS, "7": moment, "12": moment[4:], "13": moment[:4], "41": self._terminal}
        messages = {
            (stan := f"{trace.stan:06d}"): {
                **always,
                "4": f"{order.amount_minor:012d}",
                "11": stan,
                "37": trace.rrn,
                "42": f"{order.merchant_id:15.15}",
                "49": NUMERIC_CODES[order.currency],
            }
            for order, trace in asked
        }
        answers = await self._exchange(messages)
        return [answers[stan] for stan in messages]

    async def _exchange(self, messages: dict[str, dict[str, str]]) -> dict[str, Answer]:
        self._answers = {}
        self._missing = set(messages)
        self._complete = asyncio.get_running_loop().create_future()
        bodies = [bytes(iso8583.encode(m, _SPEC)[0]) for m in messages.values()]
        self._transport.write(b"".join([len(b).to_bytes(2, "big") + b for b in bodies]))
        async with asyncio.timeout(_ANSWER_TIMEOUT_S):
            await self._complete
        return self._answers

    def tell(self, order: Order, trace: Trace, answer: Answer, topic: str, now: datetime) -> Outgoing:  # noqa: ARG002
        """See the protocol."""
        told = {**order._asdict(), "rrn": trace.rrn, "response_code": answer.response_code}
        return Outgoing(topic, order.order_id.encode(), to_json(told), ())

    async def stop(self) -> None:
        """Hang up."""
        self._transport.close()


async def connect(host: str, port: int, worker: int) -> LeastForm:
    """Connect and sign on.

    Raises:
        TimeoutError, OSError: the host is not there, or does not answer.
    """
    _, form = await asyncio.get_running_loop().create_connection(lambda: LeastForm(worker), host, port)
    await form.sign_on()
    return form
