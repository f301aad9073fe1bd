"""Clearing files: whole ones come in record by record, torn ones not at all, and one bad line harms no other."""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import pytest

from gateway.base.errors import PublisherUnavailableError, TooLargeForTopicError
from gateway.directory.merchant_files import read_merchants
from gateway.messaging.records import Outgoing, Record
from gateway.proving.counterparts.clearing import ClearingSummary, _line_of, _Record
from gateway.proving.memory import MemoryClock
from gateway.settlement.files import ClearingFile, ClearingImport, FileOutcome
from gateway.settlement.format import LINE_BYTES_MAX, read_lines, read_record, scan
from gateway.settlement.messages import CHUNKS_MAX, read_clearing
from gateway.settlement.store import ClearingSealError
from schemas.clearing import ClearingKind
from schemas.codec import DecodeError

NOW = datetime(2026, 3, 3, 1, tzinfo=UTC)
HEADER = "H,bcard,20260302-0001,2026-03-02,2026-03-02T23:59:59.123456+09:00"


def line(number: int, *, kind: str = "purchase", amount: int = 1000) -> str:
    return f"D,{number},{kind},6061{number:08d},{number:06d},GW000000,CAFE1,{amount},KRW,A00001,0302030405"


def clearing_file(*body: str, header: str = HEADER, trailer: str | None = None) -> bytes:
    amounts = [(p[2], int(p[7])) for p in (b.split(",") for b in body) if len(p) == 11 and p[7].isdigit()]
    total = sum(a if kind == "purchase" else -a for kind, a in amounts)
    last = f"T,{len(amounts)},{total}" if trailer is None else trailer
    return "".join(f"{x}\n" for x in (header, *body, last) if x).encode()


class Kafka:
    """Publisher and dead letters in one; fails as often as told."""

    def __init__(self) -> None:
        self.published: list[Outgoing] = []
        self.parked: list[tuple[Record, Exception]] = []
        self.failures = 0
        self.narrow: str | None = None

    async def publish(self, records: Sequence[Outgoing]) -> None:
        self._fail()
        if any(r.topic == self.narrow for r in records):
            raise TooLargeForTopicError(records[0].topic, frozenset([0]))
        self.published.extend(records)

    async def park(self, stage: str, records: Sequence[tuple[Record, Exception]]) -> None:
        assert stage == "clearing_import"
        self._fail()
        self.parked.extend(records)

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise PublisherUnavailableError("away")

    @property
    def record_numbers(self) -> list[int]:
        return [r.record_no for b in self.batches for r in b.records]

    @property
    def batches(self) -> list[object]:
        result = []
        for position, message in enumerate(self.published):
            # Read as settlement reads it.
            read = read_clearing(
                Record(message.topic, 0, position, 0, message.key, message.value, tuple(message.headers)), NOW
            )
            assert not read.bad
            assert read.batch is not None
            result.append(read.batch)
        return result


class Quiet:
    def __init__(self) -> None:
        self.notes: list[tuple[str, dict[str, object]]] = []
        self.counted: Counter[str] = Counter()

    def count(self, stage: str, outcome: str, *, reason: str = "", network: str = "", n: int = 1) -> None:
        self.counted[outcome] += n

    def note(self, event: str, *, level: str = "info", **fields: object) -> None:
        self.notes.append((event, fields))


class Seals:
    """Nothing is asked for, unless told."""

    def __init__(self) -> None:
        self.asked: frozenset[str] = frozenset()

    def required(self, network_id: str) -> bool:
        return network_id in self.asked

    def check(self, network_id: str, file: BinaryIO, seals: Mapping[str, bytes]) -> None:
        if network_id in self.asked and seals.get(".hmac") != hashlib.sha256(file.read()).hexdigest().encode():
            raise ClearingSealError("no seal")


def importer(kafka: Kafka, *, networks: Collection[str] = ("bcard",), quiet: Quiet | None = None) -> ClearingImport:
    return ClearingImport(
        publisher=kafka,
        dead_letters=kafka,
        observer=quiet or Quiet(),
        clock=MemoryClock(NOW),
        seals=Seals(),
        networks=networks,
    )


async def bring(data: bytes, kafka: Kafka, *, force: bool = False, networks: Collection[str] = ("bcard",)):
    source = ClearingFile(io.BytesIO(data), "bcard-20260302-0001.csv", modified_ms=1)
    return await importer(kafka, networks=networks).bring(source, force=force)


# --- the format -------------------------------------------------------------------------------------------------------


def test_a_line_of_the_simulated_network_is_read() -> None:
    key = "GW000007" + "000042" + "0302030405"
    written = _line_of(
        _Record("refund", "606100000042", key, "CAFE 1", 12_500, "KRW", None), ClearingSummary(Path(), "c")
    )
    record = read_record(",".join(map(str, written)).encode())
    assert record.model_dump() == {
        "record_no": 1,
        "kind": ClearingKind.REFUND,
        "rrn": "606100000042",
        "stan": 42,
        "terminal_id": "GW000007",
        "acceptor_id": "CAFE 1",
        "amount_minor": 12_500,
        "currency": "KRW",
        "approval_code": None,
    }


BAD_LINES = {
    "garbage": "D,?,this is no record",
    "no record": "X,1",
    "a second header": HEADER,
    "too few fields": line(9).rpartition(",")[0],
    "too many fields": line(9) + ",",
    "a quoted field": line(9).replace("CAFE1", '"CAFE1"'),
    "unknown kind": line(9, kind="chargeback"),
    "zero amount": line(9, amount=0),
    "negative amount": line(9, amount=-5),
    "overflowing amount": line(9, amount=10**12),
    "huge number": line(9).replace("1000", "9" * 500),
    "decimal amount": line(9).replace(",1000,", ",10.00,"),
    "exponent": line(9).replace(",1000,", ",1e3,"),
    "other digits": line(9).replace(",1000,", ",١٠٠٠,"),
    "short rrn": line(9).replace("606100000009", "6061"),
    "wrong currency": line(9).replace("KRW", "won"),
    "stan zero": line(9).replace("000009,GW", "000000,GW"),
    "long line": line(9) + "x" * 5000,
    "not ascii": line(9).replace("CAFE1", "카페"),
    "NUL": line(9).replace("CAFE1", "CAFE\0"),
    "record number again": line(1),
    "record number zero": line(0),
}


@pytest.mark.parametrize("name", BAD_LINES)
async def test_a_bad_line_is_told_alone_and_the_file_is_a_partial_one(name: str) -> None:
    kafka = Kafka()
    report = await bring(clearing_file(line(1), BAD_LINES[name], line(10), trailer="T,2,2000"), kafka)
    assert (report.published, report.bad_lines, report.outcome) == (2, 1, FileOutcome.PARTIAL)
    assert report.problems == ("1 lines are no records",)
    assert kafka.record_numbers == [1, 10]
    [told] = report.bad
    assert told.startswith("line 3: ")
    [(parked, error)] = kafka.parked
    assert parked.reference == "file:bcard-20260302-0001.csv/0/0"
    assert json.loads(parked.value)["bad"] == [told]
    assert isinstance(error, DecodeError)
    # What is told of the line holds nothing of it.
    for text in (told, str(error), parked.value.decode()):
        assert not any(part in text for part in BAD_LINES[name].split(",") if len(part) > 5 and part != "20260302-0001")


async def test_a_line_with_a_comma_in_its_amount_is_a_failure_that_says_what_is_missing() -> None:
    kafka = Kafka()
    lost = line(2, amount=1234).replace(",1234,", ",1,234,")
    report = await bring(clearing_file(line(1), lost, trailer="T,2,2234"), kafka)
    assert report.outcome is FileOutcome.PARTIAL
    assert report.problems == (
        "1 lines are no records",
        "the trailer tells 2 records, the file has 1",
        "the trailer tells a sum of 2234, the records make 1000",
    )
    alone = await bring(clearing_file(lost, trailer="T,1,1234"), kafka)
    assert (alone.outcome, alone.published) == (FileOutcome.PARTIAL, 0)


async def test_a_file_of_junk_is_one_dead_letter() -> None:
    kafka = Kafka()
    report = await bring(clearing_file(line(1), *["D,?,4111111111111111"] * 20_000, trailer="T,1,1000"), kafka)
    assert (report.outcome, report.published, report.bad_lines) == (FileOutcome.FAILED, 0, 20_000)
    assert "20000 lines are no records, and 1 are: this is junk" in report.problems
    [(parked, _)] = kafka.parked
    assert len(parked.value) < 4_000
    assert b"4111111111111111" not in parked.value
    for junk in (b"\x00" * 100_000, b"x\n" * 20_000):
        assert (await bring(junk, kafka)).outcome is FileOutcome.FAILED
    assert len(kafka.parked) == 3


def test_lines_keep_their_numbers() -> None:
    long = b"x" * (3 * LINE_BYTES_MAX)
    lines = list(read_lines(io.BytesIO(b"a\r\n\n" + long + b"\nb")))
    assert [(n, len(text)) for n, text in lines] == [(1, 1), (3, LINE_BYTES_MAX + 1), (4, 1)]


HEADERS = {
    "empty file": "",
    "no header": line(1),
    "unknown network name": HEADER.replace("bcard", "b/card"),
    "bad cycle": HEADER.replace("20260302-0001", "../x"),
    "no time": HEADER.replace("2026-03-02T23:59:59.123456+09:00", "today"),
    "no offset": HEADER.removesuffix("+09:00"),
    "too short": "H,bcard",
}


@pytest.mark.parametrize("name", HEADERS)
async def test_a_file_without_a_header_is_no_clearing_file(name: str) -> None:
    kafka = Kafka()
    data = clearing_file(line(1), header=HEADERS[name]) if HEADERS[name] else b""
    report = await bring(data, kafka, force=True)
    assert (report.outcome, report.published, len(kafka.parked)) == (FileOutcome.FAILED, 0, 1)
    assert not kafka.published


MARKED = {
    "as it should be": lambda data: data,
    "byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "CRLF": lambda data: data.replace(b"\n", b"\r\n"),
    "blank lines": lambda data: data.replace(b"\n", b"\n\n  \n\t\r\n"),
    "blank at the ends": lambda data: data.replace(b"\n", b" \t\n"),
    "Ctrl-Z": lambda data: data + b"\x1a",
    "Ctrl-Z alone, and padding": lambda data: data + b"\r\n\x1a\x1a\r\n   ",
    "no last line end": lambda data: data.rstrip(b"\n"),
}


@pytest.mark.parametrize("name", MARKED)
async def test_what_editors_and_old_systems_leave_is_read_alike_in_all_files(name: str) -> None:
    kafka = Kafka()
    report = await bring(MARKED[name](clearing_file(line(1), line(2))), kafka)
    assert (report.outcome, kafka.record_numbers) == (FileOutcome.DONE, [1, 2])
    csv = (
        b"merchant_id,acceptor_id,name_location,mcc,networks\n"
        b"M-1,100200300,COFFEE SEOUL KR,5814,bcard\nM-2,100200301,BOOKS SEOUL KR,5942,bcard\n"
    )
    jsonl = b"".join(
        json.dumps(
            {"merchant_id": m, "acceptor_id": "1", "name_location": "X", "mcc": "5814", "networks": ["bcard"]}
        ).encode()
        + b"\n"
        for m in ("M-1", "M-2")
    )
    for data in (csv, jsonl):
        found = read_merchants(MARKED[name](data))
        assert ([m.merchant_id for m in found.merchants], found.errors) == (["M-1", "M-2"], {})


# --- the trailer ------------------------------------------------------------------------------------------------------

TRAILERS = {
    # name: (body, trailer, is it imported; None: in part)
    "as it should be": ([line(1), line(2, kind="refund", amount=300)], "T,2,700", True),
    "no records": ([], "T,0,0", True),
    "missing": ([line(1)], "", False),
    "too many told": ([line(1)], "T,2,1000", False),
    "too few told": ([line(1)], "T,0,1000", False),
    "wrong sum": ([line(1)], "T,1,1001", False),
    "sum without signs": ([line(1), line(2, kind="refund")], "T,2,2000", False),
    "unreadable": ([line(1)], "T,one,1000", False),
    "lines follow": ([line(1)], f"T,1,1000\n{line(2)}", False),
    "a bad line more than told": ([line(1), "D,?"], "T,1,1000", None),
    "a bad line is the one told": ([line(1), "D,?"], "T,2,9999", None),
    "a bad line does not excuse the sum": ([line(1), "D,?"], "T,1,1001", False),
    "a bad line does not excuse two missing": ([line(1), "D,?"], "T,3,9999", False),
}


@pytest.mark.parametrize("name", TRAILERS)
async def test_a_file_that_its_trailer_contradicts_is_not_imported(name: str) -> None:
    body, trailer, imported = TRAILERS[name]
    data = clearing_file(*body, trailer=trailer)
    kafka = Kafka()
    report = await bring(data, kafka)
    outcomes = {True: FileOutcome.DONE, False: FileOutcome.FAILED, None: FileOutcome.PARTIAL}
    assert report.outcome is outcomes[imported]
    assert bool(report.problems) is (imported is not True)
    assert len(kafka.parked) == (imported is not True)
    if imported is False:
        assert (report.published, kafka.published) == (0, [])
        forced = await bring(data, kafka, force=True)
        assert forced.problems == report.problems
        assert forced.published == forced.records == len(kafka.record_numbers)


def test_the_scan_counts_what_the_trailer_counts() -> None:
    found = scan(
        io.BytesIO(clearing_file(line(1, amount=5), line(2, kind="refund", amount=7), "D,?", trailer="T,2,-2"))
    )
    assert (found.records, found.sum_minor, found.bad_lines, found.problems) == (2, -2, 1, [])


# --- publication ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunk", "is_read"), [(1, True), (CHUNKS_MAX, True), (0, False), (CHUNKS_MAX + 1, False), (10**90, False)]
)
async def test_a_chunk_has_a_number_that_can_be_told_on(chunk: int, is_read: bool) -> None:
    """It stands in every event of it, and its sender could make it as long as a message."""
    kafka = Kafka()
    await bring(clearing_file(line(1)), kafka)
    [sent] = kafka.published
    body = json.dumps(json.loads(sent.value or b"") | {"chunk": chunk}).encode()
    read = read_clearing(Record(sent.topic, 0, 0, 0, sent.key, body, tuple(sent.headers)), NOW)
    assert (read.batch is not None, len(read.bad)) == (is_read, 0 if is_read else 1)


async def test_records_go_out_in_chunks_under_the_cycle() -> None:
    kafka = Kafka()
    report = await bring(clearing_file(*(line(n) for n in range(1, 5_101))), kafka)
    assert report.messages == len(kafka.published) == 26
    assert kafka.record_numbers == list(range(1, 5_101))
    assert {(m.topic, m.key) for m in kafka.published} == {("mypay.clearing.bcard", b"20260302-0001")}
    assert [b.chunk for b in kafka.batches] == list(range(1, 27))
    assert max(len(m.value) for m in kafka.published) < 200_000


@pytest.mark.parametrize(("ahead", "is_taken"), [(timedelta(days=1), True), (timedelta(days=1, seconds=1), False)])
async def test_a_file_from_the_future_is_refused_even_by_force(ahead: timedelta, is_taken: bool) -> None:
    """Whatever corrected it would be older, until that day has come."""
    kafka = Kafka()
    header = f"H,bcard,20260302-0001,2026-03-02,{NOW + ahead:%Y-%m-%dT%H:%M:%SZ}"
    report = await bring(clearing_file(line(1), header=header), kafka, force=True)
    assert (report.outcome is FileOutcome.DONE, len(kafka.published), len(kafka.parked)) == (
        (True, 1, 0) if is_taken else (False, 0, 1)
    )
    assert is_taken or "created_at is more than a day ahead" in report.problems[0]


async def test_importing_again_publishes_the_same() -> None:
    data = clearing_file(*(line(n) for n in range(1, 700)), "D,?", trailer="T,699,699000")
    first, second = Kafka(), Kafka()
    assert await bring(data, first) == await bring(data, second)
    assert first.published == second.published
    assert [r for r, _ in first.parked] == [r for r, _ in second.parked]


async def test_an_unknown_network_is_refused() -> None:
    kafka = Kafka()
    report = await bring(clearing_file(line(1)), kafka, networks={"kcard"})
    assert "not configured" in report.problems[0]
    assert not kafka.published


async def test_an_outage_is_told_and_a_second_try_completes() -> None:
    kafka = Kafka()
    kafka.failures = 1
    with pytest.raises(PublisherUnavailableError):
        await bring(clearing_file(line(1)), kafka)
    assert (await bring(clearing_file(line(1)), kafka)).published == 1
