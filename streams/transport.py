"""Faust's Kafka transport, without its race around every single message; its thread is :mod:`streams.consumer_thread`.

Faust delivers each message under ``wait_first(deliver, suspend_flow)``, which makes four tasks a message: a quarter of
the intake's processor time. Nearly every delivery ends at once, so it is tried at once; only one that really has to
wait (the stream's buffer is full) is raced against the suspension of the flow, as Faust does with all.

Faust stops asking for partitions whose records fill the stream's buffer, and when the buffer has room again it notices
with the next question, up to a second later. Our stages read one topic in one stream: a delivery that waits for room is
all the back pressure that there can be. There is room for so many bytes, too (:class:`streams.batches.Doorway`).

Faust commits what it finds acknowledged without a gap, and takes for a gap what Kafka skips: it writes every missing
offset down, one by one, so that one large aborted transaction fills memory, and its gaps include a record that has just
been delivered. Our stages acknowledge a partition's records in their order and leave none out, so the last one that is
acknowledged says it all.

Faust drops what a fetch brings once its flow has stopped, and goes back to what is committed; where nothing is yet, and
where Kafka does not tell, it goes on behind what it dropped. Ours goes back to the beginning where nothing is, and
fetches nothing before it knows its place.

Faust stops the flow of a member that loses partitions, not of one that held none: that one fetches while partitions are
given out, and what it has in its queue as its flow is resumed is thrown away, with its place behind it. Ours stops for
all. What a fetch brings that began before the flow stopped last is dropped as a whole, however late it comes.

Faust passes over what stands before the last record that it delivered. A partition that lost its end begins anew, and
all that came was passed over until its offsets were there again. Ours delivers whatever comes: twice does no harm.

Faust commits nothing before the offset that it committed last, and takes a commit that its group has refused for one of
them: what came again, and what came from a partition that began anew, was never committed. Ours commits what was
acknowledged last.

Faust hands on message by message, at a cost above that of reading a record: so a message is a whole batch, as its
producer packed it, and is unpacked where it is taken (:func:`streams.batches.in_parts`).

Faust looks every second or so whether each partition is at work, and crashes where aiokafka does not know its place in
one: for as long as no broker tells it where to begin. Our stages have a watchdog of their own, so nothing looks.

Faust's producer is not idempotent: what it sent again could be there twice. Our stages publish through their own.
"""

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from contextlib import suppress
from typing import Any

import uvloop
from aiokafka.errors import IllegalStateError
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Producer, Transport
from mode.services import WaitResults

from gateway.base.process import Observer
from gateway.messaging.consumer import tell_gaps
from gateway.messaging.membership import membership_problem
from streams.batches import Doorway, size_of
from streams.consumer_thread import AnsweringQueue, PromptConsumerThread, answered


class _Forgotten(dict[Any, int | None]):
    """Of no partition it is known what was delivered, or committed, last."""

    def __getitem__(self, tp: Any) -> None:
        return None

    def __setitem__(self, tp: Any, offset: int | None) -> None:
        pass


class DirectConsumer(Consumer):
    """Delivers at once what can be delivered at once."""

    def __init__(self, transport: Any, callback: Callable[[Any], Awaitable[None]], *rest: Any, **more: Any) -> None:
        self._doorway: Doorway | None = None
        self._going_back = asyncio.Lock()
        # How often something was dropped, and how often it had been when a question for its place began that was
        # answered: where they differ, the place is not known.
        self._drops = self._drops_gone_back = 0

        async def deliver(message: Any) -> None:
            if self._doorway is not None:
                await self._doorway.enter(size_of(message))
            await callback(message)

        super().__init__(transport, deliver, *rest, **more)
        self._read_offset = _Forgotten()
        self._committed_offset = _Forgotten()
        self._answer_the_thread()

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        # As the process's own: asyncio's loop takes twice as long for what a fetch needs.
        loop = uvloop.new_event_loop()
        thread = PromptConsumerThread(self, loop=self.loop, beacon=self.beacon, thread_loop=loop)
        # It closes only what it made itself.
        thread._close_thread_loop_on_stop = True  # noqa: SLF001
        return thread

    def _answer_the_thread(self) -> None:
        queue = AnsweringQueue(callers=self._thread.thread_loop, loop=self.loop, beacon=self.beacon)
        self._children[self._children.index(self._method_queue)] = queue
        self._method_queue = queue

    async def threadsafe_partitions_revoked(self, receiver_loop: Any, revoked: set[Any]) -> None:
        """Let go of these partitions, called by the thread; nothing where a part has crashed."""
        await answered(super().threadsafe_partitions_revoked(receiver_loop, revoked), None)

    async def threadsafe_partitions_assigned(
        self, receiver_loop: Any, assigned: set[Any], generation_id: int = 0
    ) -> None:
        """Take these partitions, called by the thread; nothing where a part has crashed."""
        await answered(super().threadsafe_partitions_assigned(receiver_loop, assigned, generation_id), None)

    @property
    def _inner(self) -> Any:
        """The consumer of aiokafka; None before it is made."""
        return self._thread._consumer if self._thread is not None else None  # noqa: SLF001

    def has_left(self) -> bool:
        """True once aiokafka has given its group up: nothing will ever be consumed again.

        Its coordinator ends at what it does not expect, and waits for somebody to ask at what it may not do. Faust
        reads past both, and without partitions nothing seems to wait, either.
        """
        inner = self._inner
        coordinator = None if inner is None else inner._coordinator  # noqa: SLF001
        if coordinator is None:
            return False
        return bool(coordinator._coordination_task.done() or coordinator._error_consumed_fut is not None)  # noqa: SLF001

    def problem(self) -> str | None:
        """What keeps it from consuming; None where it is a member of its group."""
        return membership_problem(self._inner)

    def enter_through(self, doorway: Doorway) -> None:
        """Deliver from now on only where the doorway lets in."""
        self._doorway = doorway

    def held_back(self) -> Mapping[tuple[str, int], tuple[int, int]]:
        """(topic, partition) → (last stable offset, end): what stands between waits for a transaction to end."""
        inner = self._inner
        if inner is None:
            return {}
        found = {}
        for tp in inner.assignment():
            stable, end = inner.last_stable_offset(tp), inner.highwater(tp)
            if stable is not None and end is not None:
                found[tp.topic, tp.partition] = (stable, end)
        return found

    def tell_gaps(self, observer: Observer) -> None:
        """Tell what was dropped from the topic before it was read."""
        if (inner := self._inner) is not None:
            tell_gaps(inner, observer)

    def place(self, partition: Any) -> int | None:
        """The offset of what is fetched next in a partition that is held; None where no broker has told it yet.

        Not asked for by Faust's ``position``: each call keeps one of its two workers until it is known, and without
        them nothing is fetched or committed in any partition.
        """
        inner = self._inner
        subscription = None if inner is None else inner._subscription.subscription  # noqa: SLF001
        assignment = None if subscription is None else subscription.assignment
        state = None if assignment is None else assignment.state_value(partition)
        # Read once: the consumer's thread may lose it meanwhile.
        place: int | None = None if state is None else state._position  # noqa: SLF001
        return place

    def stop_flow(self) -> None:
        """Deliver nothing; what is on its way is dropped."""
        self._drops += 1
        super().stop_flow()

    async def on_partitions_assigned(self, assigned: set[Any], generation_id: int = 0) -> None:
        """Partitions have come: nothing is delivered before Faust has gone to their places and resumes the flow."""
        self.stop_flow()
        self.app.flow_control.suspend()
        await super().on_partitions_assigned(assigned, generation_id)

    async def perform_seek(self) -> None:
        """Go back to what is committed.

        Raises:
            aiokafka.errors.IllegalStateError: other partitions are held by now.
            aiokafka.errors.KafkaError: Kafka did not tell; it is asked again before anything is fetched.
        """
        async with self._going_back:
            drops = self._drops
            await super().perform_seek()
            self._drops_gone_back = drops

    async def _wait_next_records(self, timeout: float) -> Any:  # noqa: ASYNC109 - Faust's signature
        await self._know_place()
        drops = self._drops
        records, active = await super()._wait_next_records(timeout)
        if records and drops != self._drops:
            # Stopped meanwhile, and perhaps resumed: they are from where it was before it went back.
            self._drops += 1
            return {}, active
        return records, active

    async def _know_place(self) -> None:
        """Wait until the flow is active, with its place known."""
        while not self.should_stop:
            if not self.flow_active:
                await self.wait(self.can_resume_flow)  # type: ignore[arg-type]  # as Faust does
            elif self._drops == self._drops_gone_back:
                return
            else:
                # Others are held by now: asked for theirs.
                with suppress(IllegalStateError):
                    await self.perform_seek()

    async def _add_gap(self, tp: Any, offset_from: int, offset_to: int) -> None:
        """Nothing is missing: see the module's text."""

    def _new_offset(self, tp: Any) -> int | None:
        """The offset behind the last record that was acknowledged, if any was since the last commit."""
        acked: list[int] = self._acked[tp]
        if not acked:
            return None
        last = max(acked)
        acked.clear()
        self._acked_index[tp].clear()
        return last + 1

    async def verify_all_partitions_active(self) -> None:
        """Look at nothing: see the module's text."""

    def on_buffer_full(self, tp: Any) -> None:
        """Leave the partition in: see the module's text."""

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


class SilentProducer(Producer):
    """Sends nothing: see the module's text."""

    async def send(self, topic: str, *_: Any, **__: Any) -> Any:
        """Refuse.

        Raises:
            AssertionError: always. It is a bug of ours.
        """
        raise AssertionError(f"nothing is sent to {topic} through Faust: use the stage's publisher")


class DirectTransport(Transport):
    """The ``kafka://`` transport with that consumer, and without a producer."""

    Consumer = DirectConsumer
    Producer = SilentProducer


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
