"""The host over real connections, spoken to with the gateway's own codec."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import aiohttp
import pytest

from gateway.network.iso8583.codec import Message
from gateway.network.iso8583.framing import FrameFormat, FrameHeader
from gateway.network.iso8583.layout import DialectName
from gateway.proving.counterparts.books import Books
from gateway.proving.counterparts.config import ClearingFaults
from gateway.proving.counterparts.control import Control
from tests.support.simulator_peer import inquiry, management, purchase, reversal, running


@pytest.mark.parametrize("header", FrameHeader)
@pytest.mark.parametrize("dialect", ["iso87-ascii", "iso87-bcd"])
async def test_a_payment_in_every_dialect_and_header(dialect: DialectName, header: FrameHeader, tmp_path: Path) -> None:
    async with running(tmp_path, dialect=dialect, header=header, declines={"amount_suffixes": {"051": "51"}}) as net:
        peer = await net.peer()
        asked = purchase(1)
        answer = await peer.ask(asked)
        echoed = {number: asked[number] for number in (3, 4, 7, 11, 37, 41, 42, 49)}
        assert answer.mti == "0210"
        assert answer.fields == echoed | {39: "00", 38: answer[38]}
        refused = await peer.ask(purchase(2, 2051))
        assert (refused[39], refused.get(38)) == ("51", None)
        assert (await peer.ask(purchase(3, de3="200000")))[39] == "00"
        status = await peer.ask(inquiry(asked))
        assert (status.mti, status[39], status[38]) == ("0110", "00", answer[38])
        for mti in ("0420", "0421", "0421"):
            undone = await peer.ask(reversal(asked, mti=mti))
            assert (undone.mti, undone[39], undone[11]) == ("0430", "00", "500001")
        assert (await peer.ask(reversal(purchase(8))))[39] == "25"
        assert (await peer.ask(purchase(8)))[39] == "12"
        assert await net.book() == {1: "reversed", 2: "declined", 3: "approved", 8: "declined"}


async def test_a_tpdu_is_answered_with_its_addresses_exchanged(tmp_path: Path) -> None:
    async with running(tmp_path, header="tpdu") as net:
        peer = await net.peer(sign_on=False)
        peer._format = FrameFormat(FrameHeader.TPDU, tpdu=bytes.fromhex("6000120034"))
        await peer.sign_on()
        assert peer._frames.last_tpdu == bytes.fromhex("6000340012")


async def test_traffic_before_sign_on_is_refused_and_not_booked(tmp_path: Path) -> None:
    async with running(tmp_path) as net:
        peer, other = await net.peer(sign_on=False), await net.peer()
        for message in (purchase(1), reversal(purchase(1)), inquiry(purchase(1))):
            assert (await peer.ask(message))[39] == "91"
        assert (await peer.ask(management("301")))[39] == "00"
        assert await peer.sign_on() == "00"
        assert (await peer.ask(purchase(2)))[39] == "00"
        assert (await peer.ask(management("002")))[39] == "00"
        assert (await peer.ask(purchase(3)))[39] == "91"
        assert (await other.ask(purchase(4)))[39] == "00"
        assert await net.book() == {2: "approved", 4: "approved"}


async def test_traffic_before_sign_on_may_close_the_link(tmp_path: Path) -> None:
    async with running(tmp_path, policy={"on_unsigned": "close"}) as net:
        peer = await net.peer(sign_on=False)
        peer.send(purchase(1), purchase(2))
        assert await peer.closed()
        assert net.host.counters()["unsigned_traffic"] == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [({"de3": "010000"}, "12"), ({"de49": "999"}, "12"), ({"de49": "000"}, "12")],
    ids=["cash", "no currency", "unknown currency"],
)
async def test_what_the_host_does_not_do_is_refused(change: dict[str, str], code: str, tmp_path: Path) -> None:
    async with running(tmp_path) as net:
        peer = await net.peer()
        assert (await peer.ask(purchase(1, **change)))[39] == code


async def test_a_bad_body_keeps_the_link_and_a_bad_length_closes_it(tmp_path: Path) -> None:
    async with running(tmp_path, header="ascii4") as net:
        peer = await net.peer()
        peer.writer.write(b"0003abc" + b"0000" + b"00080200FFFF")
        assert (await peer.ask(purchase(1)))[39] == "00"
        assert net.host.counters()["bad_messages"] == 2
        peer.writer.write(b"12x4")
        assert await peer.closed()
        assert net.host.counters()["framing_errors"] == 1


async def test_latency_is_waited_for(tmp_path: Path) -> None:
    async with running(tmp_path, latency={"base_ms": 40, "jitter_ms": 10}) as net:
        peer = await net.peer()
        loop = asyncio.get_running_loop()
        started = loop.time()
        await peer.ask(purchase(1))
        assert loop.time() - started >= 0.03


async def test_the_host_sends_echoes_of_its_own(tmp_path: Path) -> None:
    async with running(tmp_path) as net:
        peer, _unsigned = await net.peer(), await net.peer(sign_on=False)
        echoes = asyncio.create_task(net.host.send_echoes(0.01))
        echo = await peer.receive()
        echoes.cancel()
        assert (echo.mti, echo[70]) == ("0800", "301")
        peer.send(Message("0810", {7: echo[7], 11: echo[11], 39: "00", 70: "301"}))
        await net.until_counted("echoes_answered")


async def test_a_clearing_file_that_a_crash_left_open_is_written_at_the_next_start(tmp_path: Path) -> None:
    directory = tmp_path / "clearing"
    async with running(tmp_path) as net:
        await (await net.peer()).ask(purchase(1))
        cycle = net.host._ledger.close_cycle(datetime.now(UTC), ClearingFaults())
    async with running(tmp_path, clearing={"directory": directory}):
        (file,) = directory.iterdir()
    assert file.name == f"simnet-{cycle.cycle_id}.csv"
    assert "RRN000000001" in file.read_text()
    file.unlink()
    async with running(tmp_path, clearing={"directory": directory}):
        assert list(directory.iterdir()) == []


async def test_the_ledger_holds_no_card_number(tmp_path: Path) -> None:
    async with running(tmp_path, pan_hash_key="0123456789abcdef") as net:
        peer = await net.peer()
        await peer.ask(purchase(1))
        await peer.ask(purchase(2))
        await peer.ask(purchase(3, de2="4000001234560000"))
        hashes = net.host._ledger._db.execute("SELECT pan_last4, pan_hash FROM transactions ORDER BY seq").fetchall()
        assert hashes[0] == hashes[1]
        assert (hashes[0][0], len(hashes[0][1])) == ("7899", 32)
        assert hashes[2][1] != hashes[0][1]
    assert b"7899" in net.ledger.read_bytes()
    assert b"400000123456" not in net.ledger.read_bytes()


async def test_the_control_interface(tmp_path: Path) -> None:
    async with running(tmp_path, clearing={"directory": tmp_path / "clearing"}) as net:
        control = Control(net.host)
        url = f"http://127.0.0.1:{await control.start(0)}"
        peer = await net.peer()
        await peer.ask(purchase(1))
        async with aiohttp.ClientSession(url) as session:
            state = await (await session.get("/state")).json()
            assert (state["links"], state["signed_on"], state["counters"]["approved"]) == (1, 1, 1)
            changed = await session.post("/faults", json={"wrong_amount": 1, "silence": "apply"})
            assert (await changed.json())["silence"] == "apply"
            changed = await session.post("/faults", json={"silence": "off"})
            assert (await changed.json())["wrong_amount"] == 1
            assert (await peer.ask(purchase(2)))[4] == "000000001001"
            assert (await (await session.delete("/faults")).json())["wrong_amount"] == 0
            assert (await peer.ask(purchase(3)))[4] == "000000001000"
            for body in ('{"drop": 1}', '{"late": 2}', "[1]", "{"):
                refused = await session.post("/faults", data=body)
                assert refused.status == 400
                assert "error" in await refused.json()
            cycle = await (await session.post("/cycle", json={"omit": 1})).json()
            assert (cycle["records"], cycle["sum_minor"]) == (2, 2000)
            assert cycle["faulty"] == {"omit": ["RRN000000001"]}
            assert cycle["path"] in map(str, (tmp_path / "clearing").glob("*.csv"))
            assert (await (await session.post("/cycle")).json())["records"] == 0
            assert await (await session.post("/links/cut")).json() == {"cut": 1}
        await control.stop()


async def test_no_clearing_directory_no_cycle(tmp_path: Path) -> None:
    async with running(tmp_path) as net:
        control = Control(net.host)
        url = f"http://127.0.0.1:{await control.start(0)}"
        async with aiohttp.ClientSession(url) as session:
            assert (await session.post("/cycle")).status == 409
        await control.stop()


async def test_what_arrived_before_the_stop_is_booked_and_answered(tmp_path: Path) -> None:
    ledger = {"path": tmp_path / "ledger.db", "batch_max": 50}
    async with running(tmp_path, ledger=ledger) as net:
        peer, held = await net.peer(), Event()
        net.host._worker.submit(held.wait)
        peer.send(*[purchase(stan) for stan in range(1, 201)], management("301"))
        # The echo is answered at once, the 200 before it have been read and wait for the held ledger.
        assert (await peer.receive()).mti == "0810"
        net.host.begin_stop()
        held.set()
    assert sorted([int((await peer.receive())[11]) for _ in range(200)]) == list(range(1, 201))
    assert await peer.closed()
    with Books(net.ledger) as books:
        assert books.totals().by_state == {"approved": 200}
