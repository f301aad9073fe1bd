"""What a host sends of its own: answered or refused, never taken for an answer; signing off and on again."""

import asyncio

import pytest

from gateway.network.exchange import Answered, NotSent, NotSentCause
from gateway.network.iso8583 import link
from gateway.network.iso8583.codec import Message, decode_arriving, encode_refusal
from gateway.network.iso8583.messages import network_management
from gateway.network.iso8583.observer import LinkState
from tests.support.iso8583_host import AT, PATIENCE_S, approve, bench, config_of, ignore, purchase


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
