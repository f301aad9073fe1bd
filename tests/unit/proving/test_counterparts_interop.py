"""The gateway and the simulated network know each other by configuration alone: both ends together."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest

from gateway.network.exchange import (
    Acceptor,
    Answered,
    CardData,
    ExchangeResult,
    FinancialRequest,
    InquiryRequest,
    NetworkRequest,
    Operation,
    ReversalRequest,
    TraceNumbers,
)
from gateway.network.iso8583.config import network_from
from gateway.network.iso8583.framing import FrameHeader
from gateway.network.iso8583.pool import Iso8583Network
from gateway.proving.counterparts.config import ClearingFaults
from gateway.settlement.format import scan
from tests.support.simulator_peer import DEADLINE_S, Network, running

SHOP = Acceptor("SHOP0001", "Shop Seoul KR", "5411")
CARD = CardData("4000001234567899", "2812")


def trace(stan: int) -> TraceNumbers:
    return TraceNumbers("GW000001", stan, f"632703{stan:06d}", datetime(2026, 11, 23, 3, 45, tzinfo=UTC))


async def ask(network: Iso8583Network, request: NetworkRequest) -> ExchangeResult:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[ExchangeResult] = loop.create_future()
    async with asyncio.timeout(DEADLINE_S):
        await network.wait_open()
        await network.reserve(1, follow_up=not isinstance(request, FinancialRequest))
        network.submit(request, send_before=loop.time() + DEADLINE_S, done=ended.set_result)
        return await ended


def client_of(simulated: Network, dialect: str, frame: str) -> Iso8583Network:
    settings = {
        "network_id": "simnet",
        "addresses": [f"127.0.0.1:{simulated.host.port}"],
        "dialect": dialect,
        "frame": frame,
        "acquirer_id": "410001",
        "time_zone": "Asia/Seoul",
        "currencies": ["KRW"],
        "terminals": {"prefix": "GW", "count": 4},
    }
    return Iso8583Network(network_from(settings, source="test"), on_unmatched=lambda _: None)


@pytest.mark.parametrize("frame", FrameHeader)
@pytest.mark.parametrize("dialect", ["iso87-ascii", "iso87-bcd"])
async def test_the_whole_conversation(
    dialect: Literal["iso87-ascii", "iso87-bcd"], frame: FrameHeader, tmp_path: Path
) -> None:
    declines = {"amount_suffixes": {"051": "51"}}
    async with running(tmp_path, dialect=dialect, header=frame, declines=declines) as simulated:
        gateway = client_of(simulated, dialect, frame.value)
        await gateway.start()

        def purchase(stan: int, amount_minor: int) -> FinancialRequest:
            return FinancialRequest(trace(stan), Operation.PURCHASE, amount_minor, "KRW", SHOP, CARD)

        async def code_of(request: NetworkRequest) -> str:
            answer = await ask(gateway, request)
            assert isinstance(answer, Answered)
            # A reversal's and an inquiry's RRN is the original's.
            original = request.trace if isinstance(request, FinancialRequest) else request.original
            assert (answer.amount_minor, answer.rrn) == (request.amount_minor, original.rrn)
            return answer.response_code

        def about(stan: int, own: int) -> TraceNumbers:
            return TraceNumbers("GW000001", own, trace(stan).rrn, trace(stan).transmitted_at)

        assert await code_of(purchase(1, 1000)) == "00"
        assert await code_of(purchase(2, 2051)) == "51"
        assert await code_of(InquiryRequest(about(1, 10), trace(1), 1000, "KRW", SHOP)) == "00"
        assert await code_of(InquiryRequest(about(3, 11), trace(3), 1000, "KRW", SHOP)) == "25"
        undo = ReversalRequest(about(1, 12), trace(1), Operation.PURCHASE, 1000, "KRW", SHOP, CARD)
        assert await code_of(undo) == "00"
        assert await code_of(InquiryRequest(about(1, 13), trace(1), 1000, "KRW", SHOP)) == "25"
        assert await simulated.book() == {1: "reversed", 2: "declined"}
        await gateway.stop(drain_seconds=1)


async def test_the_gateway_reads_the_clearing_file(tmp_path: Path) -> None:
    clearing = {"directory": tmp_path / "clearing"}
    async with running(tmp_path, clearing=clearing, network_id="simnet") as simulated:
        gateway = client_of(simulated, "iso87-ascii", "binary2")
        await gateway.start()
        for stan in (1, 2, 3):
            operation = Operation.REFUND if stan == 3 else Operation.PURCHASE
            await ask(gateway, FinancialRequest(trace(stan), operation, 1000, "KRW", SHOP, CARD))
        await gateway.stop(drain_seconds=1)
        summary = await simulated.host.close_cycle(ClearingFaults(garbage=1))
        torn = await simulated.host.close_cycle(ClearingFaults(wrong_trailer=True))
    with summary.path.open("rb") as file:
        found = scan(file)
    assert (found.header.network_id, found.header.cycle_id) == ("simnet", summary.cycle_id)
    assert (found.records, found.bad_lines, found.sum_minor, list(found.problems)) == (3, 1, 1000, [])
    with torn.path.open("rb") as file:
        assert scan(file).problems
