"""Layouts as data: a foreign host with habits of its own is reached by its file alone, and so is the simulator."""

import asyncio
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.network.exchange import (
    Acceptor,
    Answered,
    ExchangeResult,
    FinancialRequest,
    InquiryRequest,
    NetworkRequest,
    Operation,
    ReversalRequest,
    TraceNumbers,
)
from gateway.network.iso8583.codec import Iso8583Error, Message, decode_message, encode_message
from gateway.network.iso8583.config import NetworkConfigError, load_network, network_from
from gateway.network.iso8583.framing import FrameFormat, FrameHeader, FrameReader, FramingError
from gateway.network.iso8583.pool import Iso8583Network
from gateway.payments.rules.lifecycle import PaymentEventKind
from gateway.payments.unknown.verdicts import judge
from gateway.proving.counterparts.mixed_wire import MixedWire
from gateway.proving.counterparts.wire import MTI, WireError
from tests.properties.test_iso8583_properties import messages
from tests.support.foreign_host import CHIP, Switch
from tests.support.iso8583_host import AT, BASE, PATIENCE_S, purchase
from tests.support.simulator_peer import running

EXAMPLE = Path(__file__).parents[3] / "deploy" / "networks" / "examples" / "switch.toml"


def switch_settings(**changes: Any) -> dict[str, Any]:
    """The example's, for a host on this machine without TLS."""
    data = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))
    del data["tls"]
    return {**data, "backoff_min_s": 0.01, "backoff_max_s": 0.02, **changes}


async def ask(network: Iso8583Network, request: NetworkRequest) -> ExchangeResult:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[ExchangeResult] = loop.create_future()
    async with asyncio.timeout(PATIENCE_S):
        await network.wait_open()
        await network.reserve(1, follow_up=not isinstance(request, FinancialRequest))
        network.submit(request, send_before=loop.time() + PATIENCE_S, done=ended.set_result)
        return await ended


@asynccontextmanager
async def gateway(port: int, **changes: Any) -> AsyncIterator[Iso8583Network]:
    config = network_from(switch_settings(addresses=[f"127.0.0.1:{port}"], **changes), source="switch.toml")
    network = Iso8583Network(config, on_unmatched=lambda _: None)
    await network.start()
    try:
        yield network
    finally:
        await network.stop(drain_seconds=0)


def sale(stan: int, amount_minor: int, **changes: Any) -> FinancialRequest:
    return purchase(stan, amount_minor=amount_minor, acceptor=Acceptor("M0000001", "김밥천국 서울", "5812"), **changes)


def own(stan: int, of: FinancialRequest) -> TraceNumbers:
    return TraceNumbers(of.trace.terminal_id, stan, of.trace.rrn, AT)


def inquiry(stan: int, of: FinancialRequest) -> InquiryRequest:
    return InquiryRequest(own(stan, of), of.trace, of.amount_minor, of.currency, of.acceptor)


def reversal(stan: int, of: FinancialRequest) -> ReversalRequest:
    return ReversalRequest(own(stan, of), of.trace, of.operation, of.amount_minor, of.currency, of.acceptor, of.card)


def code(result: ExchangeResult) -> str:
    assert isinstance(result, Answered), result
    return result.response_code


async def test_a_foreign_host_is_paid_asked_and_undone_by_its_file_alone() -> None:
    switch = Switch()
    server = await asyncio.start_server(switch.serve, "127.0.0.1", 0)
    async with server, gateway(server.sockets[0].getsockname()[1]) as network:
        first = sale(1, 12_500)
        approved = await ask(network, first)
        assert approved == Answered("00", "SW0001", 12_500, "410", first.trace.rrn)
        codes = network.config.codes
        assert judge(first, approved, codes=codes).event is PaymentEventKind.APPROVED
        assert code(await ask(network, sale(2, 12_551))) == "51"
        # It answers with a code that nobody defined and has booked all the same.
        odd = sale(3, 12_578)
        unlisted = await ask(network, odd)
        assert judge(odd, unlisted, codes=codes).event is PaymentEventKind.UNANSWERED
        assert code(await ask(network, inquiry(500_001, odd))) == "00"
        assert code(await ask(network, reversal(500_002, odd))) == "00"
        assert code(await ask(network, inquiry(500_003, odd))) == "25"
        refund = sale(4, 2_500, operation=Operation.REFUND)
        assert code(await ask(network, refund)) == "00"
        assert switch.booked == {first.trace.rrn.encode(): 12_500, refund.trace.rrn.encode(): -2_500}
    by_mti = dict(reversed(switch.seen))
    assert by_mti[b"0200"][3] == b"003000"
    assert by_mti[b"0200"][43] == "김밥천국 서울".encode("euc-kr").ljust(40)
    assert by_mti[b"0200"][14] == b"2912"
    assert 14 not in by_mti[b"0420"]
    assert by_mti[b"0100"][3] == b"383000"
    assert {fields.get(24) for _, fields in switch.seen} == {b"841"}


@pytest.mark.parametrize("header", list(FrameHeader))
@pytest.mark.parametrize("counts_itself", [False, True], ids=["", "counts itself"])
async def test_the_simulator_speaks_the_same_layout(
    tmp_path: Path, header: FrameHeader, *, counts_itself: bool
) -> None:
    data = switch_settings()
    shared = {name: data[name] for name in ("dialect", "layout", "processing_codes")}
    simulated_settings = {**shared, "header": header.value, "header_counts_itself": counts_itself}
    framed = {"frame": header.value, "frame_counts_itself": counts_itself}
    async with running(tmp_path, **simulated_settings) as simulated, gateway(simulated.host.port, **framed) as network:
        first = sale(1, 12_500)
        assert code(await ask(network, first)) == "00"
        assert code(await ask(network, inquiry(500_001, first))) == "00"
        assert code(await ask(network, reversal(500_002, first))) == "00"
        refund = sale(2, 2_500, operation=Operation.REFUND)
        assert code(await ask(network, refund)) == "00"
        assert code(await ask(network, reversal(500_003, refund))) == "00"


def test_the_example_is_read_whole() -> None:
    config = load_network(EXAMPLE)
    assert (config.framing.header, config.framing.counts_itself) == (FrameHeader.BCD2, True)
    assert config.tls is not None
    assert config.tls.ca == EXAMPLE.parent / "tls/switch-ca.pem"
    assert config.codes.of_financial("N7") is not None


def test_chip_data_is_bytes() -> None:
    wire = load_network(EXAMPLE).wire
    fields = {3: "003000", 4: "000000012500", 7: "0703040506", 11: "000001", 39: "00", 41: "SW000000"}
    answer = Message("0210", fields | {55: CHIP.hex().upper()})
    data = b"0210" + (0x3220000002800200).to_bytes(8, "big") + b"003000" + bytes.fromhex("000000012500")
    data += b"0703040506" + b"000001" + b"00" + b"SW000000" + b"020" + CHIP
    assert decode_message(data, wire) == answer


# A file's change → what is wrong with it, by name.
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"layout": {"bitmaps": "binary"}}, "layout.bitmaps: unknown field"),
    ({"layout": {"bitmap": "bcd"}}, "layout.bitmap: must be 'hex' or 'binary'"),
    ({"layout": {"charset": "klingon"}}, "layout: charset is not known"),
    ({"layout": {"fields": {"65": {}}}}, "layout: fields.65: ISO 8583:1987 has no such field"),
    ({"layout": {"fields": {"129": {}}}}, "layout: fields.129: ISO 8583:1987 has no such field"),
    ({"layout": {"fields": {"055": {}}}}, "layout.fields.055.[key]: must be a number from 1 to 999"),
    ({"layout": {"fields": {"55": {"lenght": 9}}}}, "layout.fields.55.lenght: unknown field"),
    ({"layout": {"fields": {"55": {"class": "bin"}}}}, "layout.fields.55.class: must be"),
    ({"layout": {"fields": {"55": {"class": "b", "encoding": "text"}}}}, "55: class b is not sent as text"),
    ({"layout": {"fields": {"55": {"length": 1000}}}}, "55: length does not fit its 3 digits"),
    ({"layout": {"fields": {"4": {"length": 10}}}}, "fields.4: class and length stand"),
    ({"layout": {"fields": {"37": {"omit_in": ["0200"]}}}}, "fields.37: cannot be left out"),
    ({"layout": {"fields": {"24": {"constant": "841"}}}}, "layout.fields.24: constant and sent_in go together"),
    ({"layout": {"fields": {"24": {"mandatory_in": ["0200"]}}}}, "fields.24: mandatory in 0200, which the gateway"),
    ({"layout": {"fields": {"24": {"constant": "841", "sent_in": ["0210"]}}}}, "fields.24: 0210 is not sent by"),
    (
        {"layout": {"fields": {"24": {"constant": "84", "sent_in": ["0200"]}}}},
        "layout.fields.24: its constant does not fit",
    ),
    ({"processing_codes": {"purchase": "3000"}}, "processing_codes.purchase: must be six digits"),
    ({"processing_codes": {"sale": "003000"}}, "processing_codes.sale: unknown field"),
    ({"frame": "bcd2", "frame_bytes_max": 10_000}, "frame_bytes_max is at most 9999"),
    ({"frame": "binary8"}, "frame: must be"),
    ({"match_by": "luck"}, "match_by: must be"),
]


@pytest.mark.parametrize(("change", "problem"), REFUSED, ids=[problem for _, problem in REFUSED])
def test_what_a_layout_cannot_say_is_refused_by_name(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(NetworkConfigError) as caught:
        network_from(BASE | change, source="net.toml")
    assert problem in str(caught.value)


FIELD_CHANGES = {
    "2": {"length_encoding": "binary"},
    "4": {"encoding": "bcd"},
    "11": {"encoding": "bcd"},
    "32": {"encoding": "bcd", "length_encoding": "bcd"},
    "48": {"length_encoding": "binary"},
    "54": {"length_digits": 4},
    "64": {"encoding": "binary"},
    "97": {"encoding": "bcd"},
}
LAYOUTS = {
    "binary bitmap": {"dialect": "iso87-ascii", "layout": {"bitmap": "binary"}},
    "packed MTI": {"dialect": "iso87-ascii", "layout": {"mti": "bcd"}},
    "single fields": {"dialect": "iso87-ascii", "layout": {"fields": FIELD_CHANGES}},
    "packed with text": {
        "dialect": "iso87-bcd",
        "layout": {"bitmap": "hex", "fields": {"3": {"encoding": "text"}, "64": {"encoding": "hex"}}},
    },
}


@pytest.mark.parametrize("name", LAYOUTS)
@given(message=messages())
@settings(max_examples=60, deadline=None)
def test_both_sides_read_and_write_a_layout_the_same_way(name: str, message: Message) -> None:
    config = network_from({**BASE, **LAYOUTS[name]}, source=name)
    data = encode_message(message, config.wire)
    assert decode_message(data, config.wire) == message
    other = MixedWire(config.layout.layout(config.dialect, config.bcd_pad))
    fields = other.decode(data)
    assert fields[MTI] == message.mti
    assert fields.keys() - {MTI} == message.fields.keys()
    assert other.encode(fields) == data


@pytest.mark.parametrize("name", LAYOUTS)
@given(data=st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_read_or_refused_in_any_layout(name: str, data: bytes) -> None:
    config = network_from({**BASE, **LAYOUTS[name]}, source=name)
    other = MixedWire(config.layout.layout(config.dialect, config.bcd_pad))
    for candidate in (data, b"0210" + data, b"\x02\x10" + data):
        with suppress(Iso8583Error):
            assert decode_message(candidate, config.wire).mti == "0210"
        with suppress(WireError):
            assert other.decode(candidate)[MTI][0] == "0"


# Header, does it count itself → the frame of two bytes, and a keep-alive.
FRAMES = [
    (FrameHeader.BINARY2, False, b"\x00\x02hi", b"\x00\x00"),
    (FrameHeader.BINARY2, True, b"\x00\x04hi", b"\x00\x02"),
    (FrameHeader.BINARY4, False, b"\x00\x00\x00\x02hi", b"\x00\x00\x00\x00"),
    (FrameHeader.BINARY4, True, b"\x00\x00\x00\x06hi", b"\x00\x00\x00\x04"),
    (FrameHeader.ASCII4, True, b"0006hi", b"0004"),
    (FrameHeader.BCD2, False, b"\x00\x02hi", b"\x00\x00"),
    (FrameHeader.BCD2, True, b"\x00\x04hi", b"\x00\x02"),
    (FrameHeader.TPDU, True, b"\x00\x09\x60\x00\x01\x00\x00hi", b"\x00\x02"),
]


@pytest.mark.parametrize(("header", "counts_itself", "frame", "keep_alive"), FRAMES)
def test_frames_are_these_bytes(header: FrameHeader, frame: bytes, keep_alive: bytes, *, counts_itself: bool) -> None:
    format_ = FrameFormat(header, counts_itself=counts_itself)
    assert format_.frame(b"hi") == frame
    assert format_.keep_alive() == keep_alive
    reader = FrameReader(format_)
    assert reader.feed(frame + keep_alive + frame) == [b"hi", b"hi"]
    assert reader.keep_alives == 1


def test_a_length_is_packed_digits_and_counts_at_least_itself() -> None:
    with pytest.raises(FramingError, match="four digits"):
        FrameReader(FrameFormat(FrameHeader.BCD2)).feed(b"\x0a\x00")
    with pytest.raises(FramingError, match="does not count itself"):
        FrameReader(FrameFormat(FrameHeader.BINARY2, counts_itself=True)).feed(b"\x00\x01")
    assert FrameFormat(FrameHeader.BCD2).frame(b"x" * 1234)[:2] == b"\x12\x34"
