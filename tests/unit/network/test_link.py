"""A link against a scripted host on a real socket: it signs on, stays up, sends in time, and is made again."""

import asyncio
import time

import pytest
import uvloop

from gateway.network.exchange import (
    Answered,
    InquiryRequest,
    NotSent,
    NotSentCause,
    Operation,
    ReversalRequest,
    TraceNumbers,
    Unanswered,
    UnansweredCause,
)
from gateway.network.iso8583.codec import Message
from gateway.network.iso8583.messages import response_to
from tests.support.iso8583_host import AT, PATIENCE_S, Peer, bench, fill, ignore, purchase


async def test_signs_on_before_any_request_and_answers_come_back() -> None:
    async with bench() as b:
        early = await b.ask(purchase(1))
        assert early == NotSent(NotSentCause.NO_LINK, "no link is signed on")
        await b.open()
        result = await b.ask(purchase(2))
        assert result == Answered("00", "A12345", 12_500, "410", "000000000002")
        assert [m.mti for _, m in b.host.received] == ["0800", "0200"]
        assert b.host.received[0][1][70] == "001"


@pytest.mark.parametrize("frame", ["binary2", "ascii4", "tpdu"])
@pytest.mark.parametrize("dialect", ["iso87-ascii", "iso87-bcd"])
async def test_every_request_kind_goes_through_in_every_dialect_and_frame(dialect: str, frame: str) -> None:
    async with bench(dialect=dialect, frame=frame) as b:
        await b.open()
        sale = purchase(7)
        own = TraceNumbers("GW000001", 8, sale.trace.rrn, AT)
        reversal = ReversalRequest(own, sale.trace, Operation.PURCHASE, 12_500, "KRW", sale.acceptor, sale.card)
        repeat = ReversalRequest(
            own, sale.trace, Operation.PURCHASE, 12_500, "KRW", sale.acceptor, sale.card, repeat=True
        )
        inquiry = InquiryRequest(
            TraceNumbers("GW000001", 9, sale.trace.rrn, AT), sale.trace, 12_500, "KRW", sale.acceptor
        )
        for request in (sale, reversal, repeat, inquiry):
            result = await b.ask(request)
            assert isinstance(result, Answered)
            assert (result.response_code, result.rrn) == ("00", sale.trace.rrn)
        assert [m.mti for _, m in b.host.received][1:] == ["0200", "0420", "0421", "0100"]


async def test_sign_on_refused_keeps_the_network_closed_and_is_tried_again() -> None:
    answers = iter(["91", "00"])

    def sign_on(peer: Peer, message: Message) -> None:
        peer.send(response_to(message, next(answers)))

    async with bench(scripts={"0800/001": sign_on}) as b:
        await b.watcher.until("link", "down", "sign-on was refused")
        assert not b.network.is_open
        await b.open()
        assert len(b.host.messages("0800", "001")) == 2
        assert b.host.received[0][0] is not b.host.received[1][0]


async def test_without_sign_on_the_link_is_up_when_connected() -> None:
    async with bench(sign_on=False) as b:
        await b.open()
        assert isinstance(await b.ask(purchase(1)), Answered)
        assert not b.host.messages("0800")


async def test_echoes_when_idle_and_stays_up() -> None:
    async with bench(echo_interval_s=0.02) as b:
        await b.open()
        await b.host.until(lambda: len(b.host.messages("0800", "301")) >= 3)
        assert b.network.is_open
        assert len(b.host.peers) == 1
        assert not [e for e in b.watcher.events if e[0] == "echo_missed"]


async def test_unanswered_echoes_drop_the_link_and_it_reconnects() -> None:
    async with bench(echo_interval_s=0.02, echo_timeout_s=0.02, echo_missed_max=3, scripts={"0800/301": ignore}) as b:
        await b.open()
        await b.watcher.until("link", "down", "echoes were not answered")
        assert [e[1] for e in b.watcher.events if e[0] == "echo_missed"] == [1, 2, 3]
        b.host.scripts.clear()
        await b.host.until(lambda: len(b.host.messages("0800", "001")) >= 2)
        await b.open()


async def test_a_dropped_connection_leaves_what_was_written_unknown_and_reconnects() -> None:
    async with bench(scripts={"0200": ignore}) as b:
        await b.open()
        waiting = [await b.submit(purchase(stan)) for stan in (1, 2, 3)]
        await b.host.until(lambda: len(b.host.messages("0200")) == 3)
        b.host.peers[0].drop()
        for future in waiting:
            assert await future == Unanswered(UnansweredCause.LINK_LOST)
        assert b.network.in_flight == 0
        b.host.scripts.clear()
        await b.open()
        assert isinstance(await b.ask(purchase(4)), Answered)
        assert [m[11] for m in b.host.messages("0200")] == ["000001", "000002", "000003", "000004"]


async def test_every_end_tells_when_the_request_was_handed_over() -> None:
    """Not when it was submitted, and not when it ended."""
    loop = asyncio.get_running_loop()
    async with bench() as b:
        await b.open()
        before = loop.time()
        answered = await b.ask(purchase(1))
        after = loop.time()
        assert isinstance(answered, Answered)
        assert answered.sent_at is not None
        assert before <= answered.sent_at <= after

        b.host.scripts["0200"] = ignore
        before = loop.time()
        submitted = await b.submit(purchase(2))
        await b.host.until(lambda: len(b.host.messages("0200")) == 2)
        arrived = loop.time()
        b.expire()
        silent = await submitted
        assert isinstance(silent, Unanswered)
        assert silent.sent_at is not None
        assert before <= silent.sent_at <= arrived

        before = loop.time()
        lost = await b.submit(purchase(3))
        await b.host.until(lambda: len(b.host.messages("0200")) == 3)
        arrived = loop.time()
        b.host.peers[0].drop()
        dropped = await lost
        assert isinstance(dropped, Unanswered)
        assert dropped.sent_at is not None
        assert before <= dropped.sent_at <= arrived


async def test_past_its_deadline_nothing_is_sent() -> None:
    async with bench() as b:
        await b.open()
        result = await b.ask(purchase(1), within_s=-0.001)
        assert isinstance(result, NotSent)
        assert result.cause is NotSentCause.TOO_LATE
        assert isinstance(await b.ask(purchase(2)), Answered)
        assert [m[11] for m in b.host.messages("0200")] == ["000002"]


async def test_a_deadline_that_passes_while_the_loop_is_busy_holds_too() -> None:
    async with bench() as b:
        await b.open()
        late = await b.submit(purchase(1), within_s=0.005)
        time.sleep(0.01)  # noqa: ASYNC251  # the busy loop is the point
        result = await late
        assert isinstance(result, NotSent)
        assert result.cause is NotSentCause.TOO_LATE
        assert isinstance(await b.ask(purchase(2)), Answered)
        assert [m[11] for m in b.host.messages("0200")] == ["000002"]


async def test_a_stuck_host_leaves_the_unwritten_unsent_and_the_rest_unknown() -> None:
    async with bench(window=100_000, write_deadline_s=PATIENCE_S, answer_timeout_s=PATIENCE_S) as b:
        await b.open()
        b.host.is_reading.clear()
        b.host.peers[0].writer.transport.pause_reading()
        waiting = await fill(b, 2000)
        late = await b.ask(purchase(99_999), within_s=0.05)
        assert isinstance(late, NotSent)
        assert late.cause is NotSentCause.TOO_LATE
        # What the write deadline does when it passes, which the next test waits for.
        b.network._links[0]._connection.abort("write deadline passed")
        await b.watcher.until("link", "down", "write deadline passed")
        async with asyncio.timeout(PATIENCE_S):
            results = await asyncio.gather(*waiting)
        assert {type(result) for result in results} <= {Unanswered, NotSent}
        # Some were handed to the kernel, and what came after them waited here: no request is lost between the two.
        unknown = results.count(Unanswered(UnansweredCause.LINK_LOST))
        assert 0 < unknown < len(results)
        assert not any(isinstance(r, Unanswered) for r in results[unknown:])


async def test_a_stuck_host_is_dropped_also_when_little_waits() -> None:
    async with bench(write_deadline_s=0.05, answer_timeout_s=30) as b:
        await b.open()
        b.host.is_reading.clear()
        b.host.peers[0].writer.transport.pause_reading()
        waiting = await fill(b, 300)
        await b.watcher.until("link", "down", "write deadline passed")
        assert {await future for future in waiting} == {Unanswered(UnansweredCause.LINK_LOST)}


def test_links_behave_the_same_on_uvloop() -> None:
    async def all_of_it() -> None:
        await test_signs_on_before_any_request_and_answers_come_back()
        await test_a_dropped_connection_leaves_what_was_written_unknown_and_reconnects()
        await test_a_stuck_host_leaves_the_unwritten_unsent_and_the_rest_unknown()
        await test_a_stuck_host_is_dropped_also_when_little_waits()

    uvloop.run(all_of_it())
