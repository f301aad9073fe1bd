"""What a host answers over a link: matched to its request, late, twice, for another one, or unreadable."""

import asyncio
from collections.abc import Callable

import pytest

from gateway.network.exchange import Answered, Unanswered, UnansweredCause
from gateway.network.iso8583.codec import Message, encode_message, encode_refusal
from gateway.network.iso8583.messages import response_to
from tests.support.iso8583_host import PATIENCE_S, Peer, approve, bench, config_of, ignore, purchase


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
