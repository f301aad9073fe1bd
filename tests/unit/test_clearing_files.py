"""Clearing files: whole ones come in record by record, torn ones not at all, and one bad line harms no other."""

import io
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.ports import Outgoing, PublisherUnavailableError, Record
from gateway.services.clearing import read_clearing
from gateway.services.clearing_files import BROKEN, DONE, STILL_ARRIVING_S, import_file, take_inbox
from gateway.services.clearing_format import (
    LINE_BYTES_MAX,
    ClearingFileError,
    read_lines,
    read_record,
    scan,
)
from gateway.simulator.clearing import ClearingSummary, _line_of, _Record
from schemas.clearing import ClearingKind
from schemas.codec import DecodeError

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

    async def publish(self, records: Sequence[Outgoing]) -> None:
        self._fail()
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
                Record(message.topic, 0, position, 0, message.key, message.value, tuple(message.headers))
            )
            assert not read.bad
            assert read.batch is not None
            result.append(read.batch)
        return result


class Quiet:
    def __init__(self) -> None:
        self.notes: list[tuple[str, dict[str, object]]] = []

    def count(self, stage: str, outcome: str, *, reason: str = "", n: int = 1) -> None: ...

    def note(self, event: str, *, level: str = "info", **fields: object) -> None:
        self.notes.append((event, fields))


async def bring(path: Path, kafka: Kafka, **options: object):
    return await import_file(path, kafka, kafka, Quiet(), **options)  # type: ignore[arg-type]


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
async def test_a_bad_line_is_parked_alone(name: str, tmp_path: Path) -> None:
    path = tmp_path / "bcard-20260302-0001.csv"
    path.write_bytes(clearing_file(line(1), BAD_LINES[name], line(10), trailer="T,2,2000"))
    kafka = Kafka()
    report = await bring(path, kafka)
    assert (report.published, report.bad_lines, report.problems) == (2, 1, ())
    assert kafka.record_numbers == [1, 10]
    [(parked, error)] = kafka.parked
    assert parked.reference == "file:bcard-20260302-0001.csv/0/3"
    assert parked.value == BAD_LINES[name].encode()[:LINE_BYTES_MAX]
    assert isinstance(error, DecodeError)
    # What is told of the line holds nothing of it.
    assert not any(part in str(error) for part in BAD_LINES[name].split(",") if len(part) > 3)


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
async def test_a_file_without_a_header_is_no_clearing_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(clearing_file(line(1), header=HEADERS[name]) if HEADERS[name] else b"")
    kafka = Kafka()
    with pytest.raises(ClearingFileError):
        await bring(path, kafka, force=True)
    assert not kafka.published


# --- the trailer ------------------------------------------------------------------------------------------------------

TRAILERS = {
    # name: (body, trailer, is it imported)
    "as it should be": ([line(1), line(2, kind="refund", amount=300)], "T,2,700", True),
    "no records": ([], "T,0,0", True),
    "missing": ([line(1)], "", False),
    "too many told": ([line(1)], "T,2,1000", False),
    "too few told": ([line(1)], "T,0,1000", False),
    "wrong sum": ([line(1)], "T,1,1001", False),
    "sum without signs": ([line(1), line(2, kind="refund")], "T,2,2000", False),
    "unreadable": ([line(1)], "T,one,1000", False),
    "lines follow": ([line(1)], f"T,1,1000\n{line(2)}", False),
    "a bad line more than told": ([line(1), "D,?"], "T,1,1000", True),
    "a bad line is the one told": ([line(1), "D,?"], "T,2,9999", True),
    "a bad line does not excuse the sum": ([line(1), "D,?"], "T,1,1001", False),
    "a bad line does not excuse two missing": ([line(1), "D,?"], "T,3,9999", False),
}


@pytest.mark.parametrize("name", TRAILERS)
async def test_a_file_that_its_trailer_contradicts_is_not_imported(name: str, tmp_path: Path) -> None:
    body, trailer, imported = TRAILERS[name]
    path = tmp_path / "x.csv"
    path.write_bytes(clearing_file(*body, trailer=trailer))
    kafka = Kafka()
    report = await bring(path, kafka)
    assert bool(report.problems) is not imported
    if not imported:
        assert (report.published, kafka.published, kafka.parked) == (0, [], [])
        forced = await bring(path, kafka, force=True)
        assert forced.problems == report.problems
        assert forced.published == forced.records == len(kafka.record_numbers)


def test_the_scan_counts_what_the_trailer_counts() -> None:
    found = scan(
        io.BytesIO(clearing_file(line(1, amount=5), line(2, kind="refund", amount=7), "D,?", trailer="T,2,-2"))
    )
    assert (found.records, found.sum_minor, found.bad_lines, found.problems) == (2, -2, 1, [])


# --- publication ------------------------------------------------------------------------------------------------------


async def test_records_go_out_in_chunks_under_the_cycle(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(clearing_file(*(line(n) for n in range(1, 5_101))))
    kafka = Kafka()
    report = await bring(path, kafka)
    assert report.messages == len(kafka.published) == 11
    assert kafka.record_numbers == list(range(1, 5_101))
    assert {(m.topic, m.key) for m in kafka.published} == {("mypay.clearing.bcard", b"20260302-0001")}
    assert [b.chunk for b in kafka.batches] == list(range(1, 12))
    assert max(len(m.value) for m in kafka.published) < 200_000


async def test_importing_again_publishes_the_same(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(clearing_file(*(line(n) for n in range(1, 700)), "D,?", trailer="T,699,699000"))
    first, second = Kafka(), Kafka()
    assert await bring(path, first) == await bring(path, second)
    assert first.published == second.published
    assert [r for r, _ in first.parked] == [r for r, _ in second.parked]


async def test_an_unknown_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(clearing_file(line(1)))
    kafka = Kafka()
    with pytest.raises(ClearingFileError, match="not configured"):
        await bring(path, kafka, networks={"kcard"})
    assert not kafka.published


async def test_an_outage_is_told_and_a_second_try_completes(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(clearing_file(line(1)))
    kafka = Kafka()
    kafka.failures = 1
    with pytest.raises(PublisherUnavailableError):
        await bring(path, kafka)
    assert (await bring(path, kafka)).published == 1


# --- the inbox --------------------------------------------------------------------------------------------------------


def old(path: Path) -> Path:
    changed = path.stat().st_mtime - 2 * STILL_ARRIVING_S
    os.utime(path, (changed, changed))
    return path


async def take(inbox: Path, kafka: Kafka, quiet: Quiet | None = None):
    return await take_inbox(inbox, kafka, kafka, quiet or Quiet(), networks={"bcard"})


async def test_imported_files_go_to_done_and_broken_ones_to_broken_with_the_cause(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_bytes(clearing_file(line(2)))
    (tmp_path / "a.csv").write_bytes(clearing_file(line(1)))
    (tmp_path / "c.csv").write_bytes(clearing_file(line(3), trailer="T,9,9"))
    old(tmp_path / "c.csv")
    (tmp_path / "d.csv").write_bytes(clearing_file(line(4), header=HEADER.replace("bcard", "zcard")))
    (tmp_path / "e.tmp").write_bytes(b"H,")
    kafka, quiet = Kafka(), Quiet()
    reports = await take(tmp_path, kafka, quiet)
    assert [r.file for r in reports] == ["a.csv", "b.csv", "c.csv"]
    assert kafka.record_numbers == [1, 2]
    assert sorted(p.name for p in (tmp_path / DONE).iterdir()) == ["a.csv", "b.csv"]
    assert sorted(p.name for p in (tmp_path / BROKEN).iterdir()) == ["c.csv", "c.why.txt", "d.csv", "d.why.txt"]
    assert "trailer tells 9 records" in (tmp_path / BROKEN / "c.why.txt").read_text()
    assert [f["outcome"] for _, f in quiet.notes] == [DONE, DONE, BROKEN, BROKEN]
    assert await take(tmp_path, kafka) == []


async def test_a_file_that_is_still_being_written_is_left_until_it_is_whole_or_old(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(clearing_file(line(1), trailer=""))
    kafka = Kafka()
    await take(tmp_path, kafka)
    assert path.exists()
    path.write_bytes(clearing_file(line(1)))
    await take(tmp_path, kafka)
    assert kafka.record_numbers == [1]
    path.write_bytes(clearing_file(line(1), trailer=""))
    await take(tmp_path, kafka)
    assert path.exists()
    old(path)
    await take(tmp_path, kafka)
    assert (tmp_path / BROKEN / "a.csv").exists()


async def test_a_name_that_was_used_before_loses_nothing(tmp_path: Path) -> None:
    for _ in range(3):
        (tmp_path / "a.csv").write_bytes(clearing_file(line(1)))
        await take(tmp_path, Kafka())
    assert sorted(p.name for p in (tmp_path / DONE).iterdir()) == ["a.2.csv", "a.3.csv", "a.csv"]


async def test_the_inbox_waits_out_an_outage(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(clearing_file(line(1)))
    kafka = Kafka()
    kafka.failures = 2
    assert len(await take(tmp_path, kafka)) == 1
    assert kafka.record_numbers == [1]


async def test_a_missing_inbox_is_an_empty_one(tmp_path: Path) -> None:
    assert await take(tmp_path / "none", Kafka()) == []
