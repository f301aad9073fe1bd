"""Links and the network over them, against a scripted host on a real socket."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop

from gateway.network.exchange import (
    Answered,
    ExchangeResult,
    InquiryRequest,
    NotSent,
    NotSentCause,
    Operation,
    ReversalRequest,
    TraceNumbers,
    Unanswered,
    UnansweredCause,
)
from gateway.network.iso8583 import link
from gateway.network.iso8583.breaker import BreakerState
from gateway.network.iso8583.codec import Message, decode_arriving, encode_message, encode_refusal
from gateway.network.iso8583.messages import network_management, response_to
from gateway.network.iso8583.observer import LinkState
from gateway.network.iso8583.pool import NetworkStoppedError
from tests.support.iso8583_host import AT, PATIENCE_S, Bench, Peer, approve, bench, config_of, fill, ignore, purchase


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


async def test_answers_the_hosts_own_network_management() -> None:
    async with bench() as b:
        await b.open()
        for stan, code in enumerate(("301", "161"), start=1):
            b.host.peers[0].send(network_management(code, stan=stan, at=AT))
        await b.host.until(lambda: len(b.host.messages("0810")) == 2)
        assert [(m[11], m[70], m[39]) for m in b.host.messages("0810")] == [
            ("000001", "301", "00"),
            ("000002", "161", "40"),
        ]


def altered(change: dict[int, str | None]) -> Callable[[Peer, Message], None]:
    """A host that answers with these fields changed, or left out (None)."""

    def answer(peer: Peer, message: Message) -> None:
        extra = {} if message.mti == "0800" else {"de38": "A12345"}
        fields = {**response_to(message, "00", **extra).fields, **change}
        kept = {number: value for number, value in fields.items() if value is not None}
        answered = encode_refusal(Message(response_to(message, "00").mti, kept), peer.host.config.wire)
        peer.send_raw(peer.host.config.framing.frame(answered))

    return answer


OWN_TIME = {7: "0101000000"}


@pytest.mark.parametrize(
    ("rule", "change", "matched"),
    [
        ("reference", OWN_TIME, True),
        ("reference", {41: None}, True),
        ("reference", {7: None, 41: None}, True),
        ("reference", {3: None, 42: None, 49: None}, True),
        ("reference", {37: None}, True),
        ("reference", {37: None, **OWN_TIME}, False),
        ("terminal", {37: None, **OWN_TIME}, True),
        ("terminal", {41: None}, False),
        ("stan", {37: None, 41: None, **OWN_TIME}, True),
        ("strict", {}, True),
        ("strict", OWN_TIME, False),
        ("strict", {41: None}, False),
    ],
)
async def test_answers_are_matched_by_what_the_networks_host_echoes(
    rule: str, change: dict[int, str | None], matched: bool
) -> None:
    async with bench(match_by=rule, scripts={"0200": altered(change)}) as b:
        await b.open()
        waiting = await b.submit(purchase(1))
        if matched:
            async with asyncio.timeout(PATIENCE_S):
                result = await waiting
            assert isinstance(result, Answered)
            assert (result.response_code, result.amount_minor) == ("00", 12_500)
        else:
            unmatched = await b.until_unmatched()
            assert (unmatched.mti, unmatched.stan, unmatched.answer.response_code) == ("0210", 1, "00")
            assert not waiting.done()


async def test_an_answer_with_another_rrn_or_amount_is_handed_on_to_be_judged() -> None:
    async with bench(scripts={"0200": altered({37: "999999999999", 4: "000000012501"})}) as b:
        await b.open()
        result = await b.ask(purchase(1))
        assert isinstance(result, Answered)
        assert (result.rrn, result.amount_minor) == ("999999999999", 12_501)


async def test_network_management_is_answered_by_its_trace_number_whatever_time_the_host_stamps() -> None:
    scripts = {"0800/001": altered(OWN_TIME), "0800/301": altered({7: None, 70: None})}
    async with bench(scripts=scripts) as b:
        await b.open()
        assert await b.network._links[0].echo()
        assert not [e for e in b.watcher.events if e[0] == "unexpected"]


# What a host sends of its own → MTI and DE39 of the answer; "-": none is possible, and it is told.
HOSTS_OWN = """
  0800/001  0810  00
  0800/002  0810  00
  0800/301  0810  00
  0800/161  0810  40
  0800/201  0810  00
  0800/999  0810  40
  0800      0810  40
  0820/301  0830  00
  0820/999  0830  40
  0821/201  0830  00
  0100      0110  40
  0120      0130  40
  0200      0210  40
  0220      0230  40
  0221      0230  40
  0400      0410  40
  0420      0430  40
  0421      0430  40
  0422      0432  40
  0500      0510  40
  0520      0530  40
  0600      0610  00
  0620      0630  00
  0240      -     -
  0530      -     -
  0911      -     -
"""


@pytest.mark.parametrize("row", [line.split() for line in HOSTS_OWN.strip().splitlines()], ids=" ".join)
async def test_what_a_host_sends_of_its_own_is_answered_or_refused_never_ignored(row: list[str]) -> None:
    kind, answer, code = row
    mti, _, management = kind.partition("/")
    answered: list[bytes] = []
    async with bench() as b:
        await b.open()
        taken = asyncio.Event()

        def take(frame: bytes) -> None:
            answered.append(frame)
            taken.set()

        b.host.on_raw = take
        fields = {4: "000000000500", 11: "000077", 37: "HOST00000001", 41: "GW000001"}
        fields |= {70: management} if management else {}
        sent = encode_refusal(Message(mti, fields), config_of().wire)
        b.host.peers[0].send_raw(config_of().framing.frame(sent))
        if answer == "-":
            await b.watcher.until("undecodable", "mti")
            return
        async with asyncio.timeout(PATIENCE_S):
            await taken.wait()
        told = [e for e in b.watcher.events if e[0] == "host_asked"]
    assert answered[0][:4] == answer.encode()
    message = decode_arriving(b"0810" + answered[0][4:], config_of().wire)
    assert (message[11], message[37], message[39]) == ("000077", "HOST00000001", code)
    listed = management in {"001", "002", "301", "161", "201"}
    assert told == ([] if listed else [("host_asked", mti, code)])


async def test_a_hosts_own_message_ends_no_exchange_of_ours() -> None:
    async with bench(scripts={"0200": ignore}) as b:
        await b.open()
        waiting = await b.submit(purchase(1))
        await b.host.until(lambda: bool(b.host.messages("0200")))
        sale = b.host.messages("0200")[0]
        b.host.on_raw = lambda frame: None
        # A reversal and a malformed advice of the host's with the very numbers of the sale.
        own = {n: sale[n] for n in (4, 7, 11, 37, 41)}
        for mti in ("0220", "0420"):
            b.host.peers[0].send_raw(config_of().framing.frame(encode_refusal(Message(mti, own), config_of().wire)))
            await b.watcher.until("host_asked", mti, "40")
        assert not waiting.done()
        approve(b.host.peers[0], sale)
        assert isinstance(await waiting, Answered)


async def test_a_link_signed_off_by_the_host_takes_nothing_new_and_answers_still_arrive() -> None:
    async with bench(scripts={"0200": ignore}) as b:
        await b.open()
        waiting = await b.submit(purchase(1))
        await b.host.until(lambda: bool(b.host.messages("0200")))
        b.host.peers[0].send(network_management("002", stan=1, at=AT))
        await b.watcher.until("link", "signed_off")
        assert await b.ask(purchase(2)) == NotSent(NotSentCause.NO_LINK, "no link is signed on")
        peer, sale = b.host.received[-2] if b.host.received[-1][1].mti == "0810" else b.host.received[-1]
        approve(peer, sale)
        assert isinstance(await waiting, Answered)
        assert not b.network.is_open
        assert len(b.host.messages("0800", "001")) == 1


async def test_a_host_that_signed_off_is_signed_on_to_after_the_configured_time() -> None:
    async with bench(sign_off_wait_s=0.05) as b:
        await b.open()
        b.host.peers[0].send(network_management("002", stan=1, at=AT))
        await b.watcher.until("link", "signed_off")
        await b.watcher.until("link", "up", count=2)
        # On the connection that it had left open.
        assert len(b.host.messages("0800", "001")) == 2
        assert len(b.host.peers) == 1


async def test_a_host_that_signed_off_and_closed_is_left_in_peace(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = asyncio.Event()
    sleep = link.Link._sleep

    async def noted(self: link.Link, seconds: float | None) -> None:
        if self.state is LinkState.DOWN and seconds is not None and 3590 < seconds <= 3600:
            waiting.set()
        await sleep(self, seconds)

    monkeypatch.setattr(link.Link, "_sleep", noted)
    async with bench(sign_off_wait_s=3600) as b:
        await b.open()
        peer = b.host.peers[0]
        peer.send(network_management("002", stan=1, at=AT))
        await b.watcher.until("link", "signed_off")
        peer.drop()
        async with asyncio.timeout(PATIENCE_S):
            await waiting.wait()
        assert [e for e in b.watcher.events if e[:2] == ("link", "connecting")] == [("link", "connecting", "")]


async def test_a_host_may_sign_the_link_on_again() -> None:
    async with bench(scripts={"0200": ignore}) as b:
        await b.open()
        waiting = await b.submit(purchase(1))
        peer = b.host.peers[0]
        peer.send(network_management("002", stan=1, at=AT))
        await b.watcher.until("link", "signed_off")
        peer.send(network_management("001", stan=2, at=AT))
        await b.open()
        assert len(b.host.peers) == 1
        b.host.scripts.clear()
        assert isinstance(await b.ask(purchase(2)), Answered)
        approve(peer, b.host.messages("0200")[0])
        assert isinstance(await waiting, Answered)


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


async def test_silence_ends_at_the_answer_timeout_and_the_late_answer_is_unmatched() -> None:
    async with bench(scripts={"0200": ignore}) as b:
        await b.open()
        assert await b.unanswered(purchase(1)) == [Unanswered(UnansweredCause.TIMEOUT)]
        approve(b.host.peers[0], b.host.messages("0200")[0])
        late = await b.until_unmatched()
        assert (late.network_id, late.mti, late.terminal_id, late.stan) == ("bcard", "0210", "GW000001", 1)
        assert late.transmitted_at_raw == "0703040506"
        assert late.answer == Answered("00", "A12345", 12_500, "410", "000000000001")


async def test_silence_ends_by_itself_at_the_answer_timeout() -> None:
    # Without a sign-on, which the same time-out would end.
    async with bench(answer_timeout_s=0.02, sign_on=False, echo_interval_s=0, scripts={"0200": ignore}) as b:
        await b.open()
        assert await b.ask(purchase(1)) == Unanswered(UnansweredCause.TIMEOUT)


async def test_a_second_answer_is_unmatched() -> None:
    def twice(peer: Peer, message: Message) -> None:
        approve(peer, message)
        peer.send(response_to(message, "51"))

    async with bench(scripts={"0200": twice}) as b:
        await b.open()
        first = await b.ask(purchase(1))
        assert isinstance(first, Answered)
        assert first.response_code == "00"
        assert (await b.until_unmatched()).answer.response_code == "51"


async def test_a_response_of_another_kind_is_not_the_answer() -> None:
    def advice_response(peer: Peer, message: Message) -> None:
        peer.send(Message("0230", response_to(message, "00").fields))
        approve(peer, message)

    async with bench(scripts={"0200": advice_response}) as b:
        await b.open()
        assert isinstance(await b.ask(purchase(1)), Answered)
        assert (await b.until_unmatched()).mti == "0230"


async def test_answers_may_overtake_each_other() -> None:
    async with bench(scripts={"0200": ignore}) as b:
        await b.open()
        waiting = [await b.submit(purchase(stan, amount_minor=stan)) for stan in range(1, 6)]
        await b.host.until(lambda: len(b.host.messages("0200")) == 5)
        for message in reversed(b.host.messages("0200")):
            approve(b.host.peers[0], message)
        results = await asyncio.gather(*waiting)
        assert [r.amount_minor for r in results if isinstance(r, Answered)] == [1, 2, 3, 4, 5]


async def test_an_undecodable_answer_ends_its_exchange_unknown_and_keeps_the_link() -> None:
    def garble(peer: Peer, message: Message) -> None:
        config = config_of()
        good = response_to(message, "00")
        data = encode_message(good, config.wire).replace(b"000000012500", b"0000000I2500")
        peer.send_raw(config.framing.frame(data))

    async with bench(scripts={"0200": garble}) as b:
        await b.open()
        assert await b.ask(purchase(1)) == Unanswered(UnansweredCause.GARBLED)
        assert ("undecodable", "4") in b.watcher.events
        b.host.peers[0].send_raw(config_of().framing.frame(b"not a message at all"))
        await b.watcher.until("undecodable", "bitmap")
        b.host.scripts.clear()
        assert isinstance(await b.ask(purchase(2)), Answered)
        assert len(b.host.peers) == 1


async def test_a_bad_length_closes_the_link_after_the_good_answers_before_it() -> None:
    def good_then_nonsense(peer: Peer, message: Message) -> None:
        config = config_of()
        answer = config.framing.frame(encode_message(response_to(message, "00"), config.wire))
        peer.send_raw(answer + b"\xff\xff")

    async with bench(scripts={"0200": good_then_nonsense}) as b:
        await b.open()
        assert isinstance(await b.ask(purchase(1)), Answered)
        await b.watcher.until("link", "down", "framing: length 65535 is over the limit of 8192")
        await b.host.until(lambda: len(b.host.peers) == 2)


async def test_keep_alives_are_ignored() -> None:
    async with bench() as b:
        await b.open()
        b.host.peers[0].send_raw(b"\x00\x00" * 3)
        assert isinstance(await b.ask(purchase(1)), Answered)


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


async def test_the_window_holds_back_and_lets_on_when_answers_come() -> None:
    async with bench(window=3, scripts={"0200": ignore}) as b:
        await b.open()
        assert await b.network.reserve(2) == 2
        b.network.release(2)
        waiting = [await b.submit(purchase(stan)) for stan in (1, 2)]
        assert await b.network.reserve(5) == 1
        held = asyncio.ensure_future(b.network.reserve(5))
        await b.host.until(lambda: len(b.host.messages("0200")) == 2)
        assert not held.done()
        approve(b.host.peers[0], b.host.messages("0200")[0])
        await waiting[0]
        async with asyncio.timeout(PATIENCE_S):
            assert await held == 1
        with pytest.raises(ValueError, match="more places"):
            b.network.release(3)
        b.network.release(2)


async def test_a_refused_request_gives_its_place_to_who_waits() -> None:
    async with bench(window=1) as b:
        await b.open()
        assert await b.network.reserve(1) == 1
        held = asyncio.ensure_future(b.network.reserve(1))
        await asyncio.sleep(0)
        assert not held.done()
        b.network.submit(purchase(1, amount_minor=0), send_before=1e12, done=lambda result: None)
        async with asyncio.timeout(PATIENCE_S):
            assert await held == 1
        b.network.release(1)


async def test_submit_needs_a_place() -> None:
    async with bench() as b:
        # A follow-up's place is none for an order.
        assert await b.network.reserve(1, follow_up=True) == 1
        with pytest.raises(RuntimeError, match="without a reserved place"):
            b.network.submit(purchase(1), send_before=1e12, done=lambda result: None)
        b.network.release(1, follow_up=True)


async def test_the_same_key_in_flight_is_refused() -> None:
    async with bench(scripts={"0200": ignore}) as b:
        await b.open()
        first = await b.submit(purchase(1))
        second = await b.ask(purchase(1, amount_minor=1))
        assert isinstance(second, NotSent)
        assert second.cause is NotSentCause.NOT_ENCODABLE
        await b.host.until(lambda: bool(b.host.messages("0200")))
        approve(b.host.peers[0], b.host.messages("0200")[0])
        assert isinstance(await first, Answered)
        assert len(b.host.messages("0200")) == 1


async def test_what_cannot_be_encoded_is_not_sent_and_its_text_is_safe() -> None:
    async with bench() as b:
        await b.open()
        bad_card = purchase(1).card.__class__("4000-1234-1234-1238", None)
        result = await b.ask(purchase(1, card=bad_card))
        assert result == NotSent(NotSentCause.NOT_ENCODABLE, "field 2: has a wrong length or character")
        wrong = await b.ask(purchase(2, currency="USD"))
        assert wrong == NotSent(NotSentCause.NOT_ENCODABLE, "field 49: is not a currency of this network")


async def test_traffic_is_shared_between_links_and_moves_when_one_falls() -> None:
    async with bench(links_per_address=2, backoff_min_s=30, backoff_max_s=30, scripts={"0200": ignore}) as b:
        await b.host.until(lambda: len(b.host.messages("0800", "001")) == 2)
        await b.open()
        await b.watcher.until("link", "up", count=2)
        waiting = [await b.submit(purchase(stan)) for stan in range(1, 11)]
        await b.host.until(lambda: len(b.host.messages("0200")) == 10)
        by_peer = [sum(1 for p, m in b.host.received if p is peer and m.mti == "0200") for peer in b.host.peers]
        assert by_peer == [5, 5]
        b.host.scripts.clear()
        b.host.peers[0].drop()
        await b.watcher.until("link", "down")
        assert b.network.is_open
        assert isinstance(await b.ask(purchase(11)), Answered)
        for peer, message in list(b.host.received):
            if message.mti == "0200" and peer is b.host.peers[1] and message[11] != "000011":
                approve(peer, message)
        results = await asyncio.gather(*waiting)
        assert sorted(type(r).__name__ for r in results) == ["Answered"] * 5 + ["Unanswered"] * 5


async def test_the_least_loaded_link_is_taken() -> None:
    async with bench(links_per_address=2, scripts={"0200": ignore}) as b:
        await b.watcher.until("link", "up", count=2)
        waiting = [await b.submit(purchase(stan)) for stan in range(1, 7)]
        await b.host.until(lambda: len(b.host.messages("0200")) == 6)
        quick = b.host.peers[0]
        for peer, message in list(b.host.received):
            if peer is quick and message.mti == "0200":
                approve(peer, message)
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            while b.network.in_flight > 3:
                await asyncio.wait([f for f in waiting if not f.done()], return_when=asyncio.FIRST_COMPLETED)
        for stan in (7, 8, 9):
            await b.submit(purchase(stan))
        await b.host.until(lambda: len(b.host.messages("0200")) == 9)
        assert [p is quick for p, m in b.host.received if m.get(11) in {"000007", "000008", "000009"}] == [True] * 3


async def test_an_answer_on_another_link_counts() -> None:
    async with bench(links_per_address=2, scripts={"0200": ignore}) as b:
        await b.host.until(lambda: len(b.host.messages("0800", "001")) == 2)
        await b.open()
        waiting = await b.submit(purchase(1))
        await b.host.until(lambda: bool(b.host.messages("0200")))
        asked = next(peer for peer, m in b.host.received if m.mti == "0200")
        other = next(peer for peer in b.host.peers if peer is not asked)
        approve(other, b.host.messages("0200")[0])
        assert isinstance(await waiting, Answered)


async def test_the_breaker_opens_probes_tries_and_closes() -> None:
    breaker = {"open_after_failures": 3, "open_s": 0.05, "open_max_s": 0.1, "trial_window": 2}
    async with bench(breaker=breaker, scripts={"0200": ignore}) as b:
        await b.open()
        silence = Unanswered(UnansweredCause.TIMEOUT)
        assert await b.unanswered(*(purchase(stan) for stan in (1, 2, 3))) == [silence] * 3
        assert b.network.breaker_state is BreakerState.OPEN
        assert not b.network.is_open
        assert await b.ask(purchase(4)) == NotSent(NotSentCause.NO_LINK, "circuit breaker is open")
        echoes = len(b.host.messages("0800", "301"))
        await b.open()
        assert b.network.breaker_state is BreakerState.HALF_OPEN
        assert len(b.host.messages("0800", "301")) == echoes + 1
        assert await b.network.reserve(50) == 2
        b.network.release(2)
        assert await b.unanswered(purchase(5)) == [silence]
        assert b.network.breaker_state is BreakerState.OPEN
        b.host.scripts.clear()
        await b.open()
        assert isinstance(await b.ask(purchase(6)), Answered)
        assert b.network.breaker_state is BreakerState.CLOSED
        assert [e[1] for e in b.watcher.events if e[0] == "breaker"] == [
            "open",
            "half_open",
            "open",
            "half_open",
            "closed",
        ]


TRIAL = {"open_after_failures": 1, "open_s": 0.01, "open_max_s": 0.02, "trial_window": 8}


def inquiry_about(stan: int) -> InquiryRequest:
    sale = purchase(stan)
    own = TraceNumbers("GW000001", 500_000 + stan, sale.trace.rrn, AT)
    return InquiryRequest(own, sale.trace, 12_500, "KRW", sale.acceptor)


@asynccontextmanager
async def on_trial(**scripts: Callable[[Peer, Message], None]) -> AsyncIterator[Bench]:
    """A network whose breaker has just let it be tried again; its host follows ``scripts`` (``m0200=…``)."""
    async with bench(breaker=TRIAL, scripts={"0200": ignore}) as b:
        await b.open()
        assert await b.unanswered(purchase(1)) == [Unanswered(UnansweredCause.TIMEOUT)]
        await b.watcher.until("breaker", "half_open")
        b.host.scripts = {name.removeprefix("m"): script for name, script in scripts.items()}
        yield b


async def test_in_the_trial_follow_ups_have_places_of_their_own_and_take_none_of_the_orders() -> None:
    async with on_trial() as b:
        assert await b.network.reserve(100, follow_up=True) == 2
        assert await b.network.reserve(100) == 8
        # Who holds some already is not kept waiting for more: only what is sent ends the trial.
        assert await b.network.reserve(92, held=8) == 0
        b.network.release(8)
        b.network.release(2, follow_up=True)


async def test_in_the_trial_an_answered_follow_up_closes_nothing_and_a_silent_one_opens_nothing() -> None:
    async with on_trial(m0100=approve) as b:
        assert isinstance(await b.ask(inquiry_about(2)), Answered)
        assert b.network.breaker_state is BreakerState.HALF_OPEN
        b.host.scripts = {"0100": ignore}
        assert await b.unanswered(inquiry_about(3)) == [Unanswered(UnansweredCause.TIMEOUT)]
        assert b.network.breaker_state is BreakerState.HALF_OPEN
        assert isinstance(await b.ask(purchase(4)), Answered)
        assert b.network.breaker_state is BreakerState.CLOSED


async def test_answers_that_cannot_be_read_never_close_a_network() -> None:
    def unreadable(peer: Peer, message: Message) -> None:
        good = encode_message(response_to(message, "00"), config_of().wire)
        peer.send_raw(config_of().framing.frame(good.replace(b"000000012500", b"0000000I2500")))

    async with bench(breaker={"open_after_failures": 2}, scripts={"0200": unreadable}) as b:
        await b.open()
        for stan in range(1, 9):
            assert await b.ask(purchase(stan)) == Unanswered(UnansweredCause.GARBLED)
        assert b.network.breaker_state is BreakerState.CLOSED
        assert b.network.is_open
    async with on_trial(m0200=unreadable) as b:
        for stan in range(2, 5):
            assert await b.ask(purchase(stan)) == Unanswered(UnansweredCause.GARBLED)
            assert b.network.breaker_state is BreakerState.HALF_OPEN
        b.host.scripts.clear()
        assert isinstance(await b.ask(purchase(9)), Answered)
        assert b.network.breaker_state is BreakerState.CLOSED


async def test_stop_waits_for_answers_then_signs_off() -> None:
    async with bench(scripts={"0200": ignore}) as b:
        await b.open()
        waiting = await b.submit(purchase(1))
        await b.host.until(lambda: bool(b.host.messages("0200")))
        stopping = asyncio.ensure_future(b.network.stop(drain_seconds=PATIENCE_S))
        await asyncio.sleep(0)
        assert not b.network.is_open
        with pytest.raises(NetworkStoppedError):
            await b.network.reserve(1)
        with pytest.raises(NetworkStoppedError):
            await b.network.wait_open()
        # The link is still served while it drains, and a sign-off would come before this echo's answer.
        b.host.peers[0].send(network_management("301", stan=1, at=AT))
        await b.host.until(lambda: bool(b.host.messages("0810")))
        assert not b.host.messages("0800", "002")
        approve(b.host.peers[0], b.host.messages("0200")[0])
        assert isinstance(await waiting, Answered)
        async with asyncio.timeout(PATIENCE_S):
            await stopping
        assert len(b.host.messages("0800", "002")) == 1
        assert len(b.host.peers) == 1


async def test_stop_at_its_deadline_leaves_the_rest_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "SIGN_OFF_TIMEOUT_S", 0.02)
    async with bench(scripts={"0200": ignore, "0800/002": ignore}) as b:
        await b.open()
        waiting = await b.submit(purchase(1))
        await b.host.until(lambda: bool(b.host.messages("0200")))
        async with asyncio.timeout(PATIENCE_S):
            await b.network.stop(drain_seconds=0.01)
        assert waiting.result() == Unanswered(UnansweredCause.LINK_LOST)


async def test_one_callers_fault_does_not_harm_the_others() -> None:
    async with bench() as b:
        await b.open()
        loop = asyncio.get_running_loop()
        faults: list[str] = []
        loop.set_exception_handler(lambda _, context: faults.append(context["message"]))
        try:
            assert await b.network.reserve(1) == 1

            def broken(result: ExchangeResult) -> None:
                raise KeyError("mine")

            b.network.submit(purchase(1), send_before=loop.time() + 1, done=broken)
            assert isinstance(await b.ask(purchase(2)), Answered)
        finally:
            loop.set_exception_handler(None)
        assert faults == ["the caller failed to take the result of an exchange"]
        assert b.network.in_flight == 0
