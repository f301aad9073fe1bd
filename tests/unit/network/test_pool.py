"""A network over its links: places in its window, the links' shares, its circuit breaker, and its end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from gateway.network.exchange import (
    Answered,
    ExchangeResult,
    InquiryRequest,
    NotSent,
    NotSentCause,
    TraceNumbers,
    Unanswered,
    UnansweredCause,
)
from gateway.network.iso8583 import link
from gateway.network.iso8583.breaker import BreakerState
from gateway.network.iso8583.codec import Message, encode_message
from gateway.network.iso8583.messages import network_management, response_to
from gateway.network.iso8583.pool import NetworkStoppedError
from tests.support.iso8583_host import AT, PATIENCE_S, Bench, Peer, approve, bench, config_of, ignore, purchase


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
    # Open for long enough that a busy machine sees it.
    breaker = {"open_after_failures": 3, "open_s": 1.0, "open_max_s": 1.0, "trial_window": 2}
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
