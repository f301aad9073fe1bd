"""Faust's Kafka transport, without its race around every single message.

Faust delivers each message under ``wait_first(deliver, suspend_flow)``, which makes four tasks a message: a quarter of
the intake's processor time. Nearly every delivery ends at once, so it is tried at once; only one that really has to
wait (the stream's buffer is full) is raced against the suspension of the flow, as Faust does with all.
"""

import types
from collections.abc import Coroutine, Generator
from typing import Any

from faust.transport.drivers.aiokafka import Consumer, Transport
from mode.services import WaitResults


class DirectConsumer(Consumer):
    """Delivers at once what can be delivered at once."""

    async def wait_first(self, *coros: Any, timeout: Any = None) -> Any:  # noqa: ASYNC109 - mode's signature
        """As in ``mode.Service``; a first coroutine that ends without waiting wins at once."""
        first, *others = coros
        if not isinstance(first, Coroutine):
            return await super().wait_first(*coros, timeout=timeout)
        try:
            waits_for = first.send(None)
        except StopIteration as end:
            for other in others:
                if isinstance(other, Coroutine):
                    other.close()
            if self._stopped.is_set() or self._crashed.is_set():
                return WaitResults([], [], True)  # noqa: FBT003 - mode's own way to say "stopped"
            return WaitResults([first], [end.value], False)  # noqa: FBT003
        return await super().wait_first(_finish(first, waits_for), *others, timeout=timeout)


class DirectTransport(Transport):
    """The ``kafka://`` transport with that consumer."""

    Consumer = DirectConsumer


async def _finish(begun: Coroutine[Any, Any, Any], waits_for: Any) -> Any:
    return await _rest_of(begun, waits_for)


@types.coroutine
def _rest_of(begun: Coroutine[Any, Any, Any], waits_for: Any) -> Generator[Any, Any, Any]:
    """Await what is left of a coroutine that has been stepped once and waits for ``waits_for``."""
    while True:
        try:
            try:
                sent = yield waits_for
            except BaseException as error:  # noqa: BLE001 - handed on, cancellation included
                waits_for = begun.throw(error)
            else:
                waits_for = begun.send(sent)
        except StopIteration as end:
            return end.value
