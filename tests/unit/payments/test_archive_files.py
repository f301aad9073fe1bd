"""The archive's files: whole or not there, for their owner alone, and known by their digests."""

import json
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from gateway.payments.archive.files import ParquetFiles
from gateway.payments.archive.service import ArchiveFileError, batches
from gateway.payments.archive.store import ArchiveRecord
from gateway.proving.memory import Database
from gateway.proving.memory.archive import MemoryArchiveStore
from gateway.proving.memory.boundary import no_boundary
from schemas.primitives import PartnerId, payment_id_of
from tests.support.builders import NOW, later, payment

NAME = "payments-00000001.parquet"


async def some(count: int = 3) -> list[ArchiveRecord]:
    database = Database()
    database.payments.rows.update({p.key: p for n in range(count) if (p := payment(n, state="settled"))})  # type: ignore[arg-type]
    store = MemoryArchiveStore(database.begin(read_only=True), no_boundary)
    found: list[ArchiveRecord] = []
    for place in range(0, count, 3):
        database.outbox_cursor = (1, 1)
        found += (await store.page(place, before=later(1))).records
    return found


async def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    files, records = ParquetFiles(tmp_path / "archive"), await some()
    sha256 = files.write(NAME, records)
    assert list(files.read(NAME, sha256)) == records
    assert files.find(NAME, sha256, records[1].key) == records[1].record
    assert files.find(NAME, sha256, (PartnerId("other"), records[1].key[1])) is None
    assert files.problem(NAME, sha256) is None


async def test_anybody_with_parquet_can_search_it(tmp_path: Path) -> None:
    records = await some()
    ParquetFiles(tmp_path).write(NAME, records)
    rows = pyarrow.parquet.read_table(tmp_path / NAME).to_pylist()  # type: ignore[no-untyped-call]
    assert {r["order_id"]: (r["amount_minor"], r["currency"], r["decided_at"]) for r in rows} == {
        f"order-{n}": (10_000, "KRW", NOW) for n in range(3)
    }
    assert all(json.loads(r["record"])["payment"]["order_id"] == r["order_id"] for r in rows)


async def test_a_file_is_its_owners_alone_and_nothing_else_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    ParquetFiles(folder).write(NAME, await some())
    assert [p.name for p in folder.iterdir()] == [NAME]
    assert (folder / NAME).stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("step", ["fsync", "rename"])
async def test_a_file_that_is_not_whole_has_not_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    files, records = ParquetFiles(tmp_path), await some()

    def dies(*_: Any) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as broken:
        if step == "fsync":
            broken.setattr("os.fsync", dies)
        else:
            broken.setattr(Path, "rename", dies)
        with pytest.raises(OSError, match="no space left"):
            files.write(NAME, records)
    assert not (tmp_path / NAME).exists()
    files.discard(NAME)
    assert os.listdir(tmp_path) == []  # noqa: PTH208
    files.write(NAME, records)


async def test_a_file_is_flushed_before_it_has_its_name_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    named = Path.rename
    monkeypatch.setattr("os.fsync", lambda _: steps.append("flushed"))

    def rename(path: Path, target: Path) -> Path:
        steps.append("named")
        return named(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    ParquetFiles(tmp_path).write(NAME, await some())
    assert steps == ["flushed", "named", "flushed"]


async def test_a_file_that_was_changed_or_is_gone_is_not_read(tmp_path: Path) -> None:
    files, records = ParquetFiles(tmp_path), await some()
    sha256 = files.write(NAME, records)
    content = bytearray((tmp_path / NAME).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / NAME).write_bytes(content)
    for read in (lambda: files.read(NAME, sha256), lambda: files.find(NAME, sha256, records[0].key)):
        with pytest.raises(ArchiveFileError, match="its SHA-256 is another"):
            read()
    assert "SHA-256" in (files.problem(NAME, sha256) or "")
    (tmp_path / NAME).unlink()
    with pytest.raises(ArchiveFileError, match="No such file"):
        files.read(NAME, sha256)


def record(number: int, original: int | None = None) -> ArchiveRecord:
    def id_(n: int) -> Any:
        return payment_id_of("partner-1", f"order-{n}")

    return ArchiveRecord((PartnerId("partner-1"), id_(number)), None if original is None else id_(original), "{}")


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_no_batch_parts_a_payment_from_its_refunds(size: int) -> None:
    records = [record(1), record(2), record(3, 1), record(4), record(5, 2), record(6, 1)]
    cut = list(batches(records, size))
    assert sorted(r.key for batch in cut for r in batch) == sorted(r.key for r in records)
    for batch in cut:
        keys = {r.key[1] for r in batch}
        assert all(r.original_id in keys for r in batch if r.original_id is not None)
        assert len(batch) < size + 3
