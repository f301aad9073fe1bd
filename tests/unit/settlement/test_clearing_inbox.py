"""The inbox: files are taken once, of their network alone, and nothing that a stranger puts there is followed."""

import hashlib
import os
import shutil
from collections.abc import Callable
from errno import EACCES, ENOSPC
from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway.settlement.files import ClearingFile, ClearingImport, ImportReport
from gateway.settlement.inbox import NAME_BYTES_MAX, STILL_ARRIVING_S, ClearingInbox
from tests.unit.settlement.test_clearing_files import HEADER, Kafka, Quiet, Seals, clearing_file, importer, line

NETWORKS = frozenset({"bcard", "kcard"})


class Box:
    def __init__(self, home: Path) -> None:
        self.inbox, self.state = home / "inbox", home / "state"
        self.mine = self.inbox / "bcard"
        self.mine.mkdir(parents=True)
        self.kafka, self.quiet = Kafka(), Quiet()
        self.importing: ClearingImport = importer(self.kafka, networks=NETWORKS, quiet=self.quiet)
        self.taking = ClearingInbox(self.inbox, self.state, self.importing, self.quiet)  # type: ignore[arg-type]

    async def take(self) -> list[ImportReport]:
        return await self.taking.take(NETWORKS)

    def put(self, name: str, data: bytes) -> Path:
        (self.mine / name).write_bytes(data)
        return self.mine / name

    def ended(self, network_id: str = "bcard") -> dict[str, list[str]]:
        folders = sorted((self.state / network_id).iterdir()) if (self.state / network_id).exists() else []
        return {f.name: sorted(p.name for p in f.iterdir()) for f in folders if f.is_dir() and f.name != "incoming"}

    @property
    def named(self) -> list[str]:
        return [str(fields["file"]) for event, fields in self.quiet.notes if event == "clearing_file_not_taken"]


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def old(path: Path) -> Path:
    changed = path.stat().st_mtime - 2 * STILL_ARRIVING_S
    os.utime(path, (changed, changed))
    return path


async def test_each_file_ends_in_a_folder_outside_the_inbox_with_the_cause(box: Box) -> None:
    box.put("b.csv", clearing_file(line(2)))
    box.put("a.CSV", clearing_file(line(1)))
    box.put("c.csv", clearing_file(line(3), trailer="T,9,9"))
    box.put("d.csv", clearing_file(line(4), "D,?", trailer="T,2,5000"))
    reports = await box.take()
    assert [r.file for r in reports] == ["a.CSV", "b.csv", "c.csv", "d.csv"]
    assert box.kafka.record_numbers == [1, 2, 4]
    assert box.ended() == {
        "done": ["a.CSV", "b.csv"],
        "failed": ["c.csv", "c.why.txt"],
        "partial": ["d.csv", "d.why.txt"],
    }
    assert "trailer tells 9 records" in (box.state / "bcard" / "failed" / "c.why.txt").read_text()
    assert "line 3: " in (box.state / "bcard" / "partial" / "d.why.txt").read_text()
    assert list(box.mine.iterdir()) == []
    assert await box.take() == []


async def test_a_file_in_another_networks_inbox_is_refused(box: Box) -> None:
    (box.inbox / "kcard").mkdir()
    (box.inbox / "kcard" / "a.csv").write_bytes(clearing_file(line(1)))
    [report] = await box.take()
    assert "another network" in report.problems[0]
    assert box.kafka.published == []
    assert box.ended("kcard") == {"failed": ["a.csv", "a.why.txt"]}


def link(target: Path, path: Path) -> None:
    path.symlink_to(target)


def hard_link(target: Path, path: Path) -> None:
    path.hardlink_to(target)


def pipe(_: Path, path: Path) -> None:
    os.mkfifo(path)


def folder(_: Path, path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [link, hard_link, pipe, folder])
async def test_what_is_no_file_of_its_own_is_not_followed_but_named_once(
    box: Box, tmp_path: Path, make: Callable[[Path, Path], None]
) -> None:
    target = tmp_path / "secret"
    target.write_bytes(clearing_file(line(1)))
    make(target, box.mine / "a.csv")
    assert await box.take() == []
    assert await box.take() == []
    assert box.kafka.published == []
    assert box.kafka.parked == []
    assert box.named == ["bcard/a.csv"]
    assert box.quiet.counted["not_taken"] == 1
    assert [p.name for p in box.mine.iterdir()] == ["a.csv"]
    assert target.read_bytes() == clearing_file(line(1))


async def test_a_networks_folder_that_is_a_link_is_not_followed(box: Box, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a.csv").write_bytes(clearing_file(line(1), header=HEADER.replace("bcard", "kcard")))
    (box.inbox / "kcard").symlink_to(elsewhere)
    assert await box.take() == []
    assert box.named == ["kcard"]


async def test_files_of_any_other_name_or_place_are_named_once(box: Box) -> None:
    box.put("a.csv.gz", b"x")
    box.put("settlement.txt", b"x")
    old(box.put("left.tmp", b"x"))
    box.put("coming.tmp", b"x")
    (box.inbox / "b.csv").write_bytes(clearing_file(line(1)))
    (box.inbox / "zcard").mkdir()
    for _ in range(3):
        assert await box.take() == []
    assert sorted(box.named) == ["b.csv", "bcard/a.csv.gz", "bcard/left.tmp", "bcard/settlement.txt", "zcard"]
    assert box.quiet.counted["not_taken"] == 5


@pytest.mark.parametrize("data", [clearing_file(line(1)), b"junk\nT,"], ids=["whole", "junk"])
async def test_a_name_that_leaves_no_room_for_another_is_not_taken_and_holds_up_nobody(box: Box, data: bytes) -> None:
    """What a file is kept under, and its cause, have longer names: no file system took them, and the stage ended."""
    longest = "n" * 251 + ".csv"
    (box.inbox / "kcard").mkdir()
    (box.inbox / "kcard" / "b.csv").write_bytes(clearing_file(line(2), header=HEADER.replace("bcard", "kcard")))
    for _ in range(2):
        box.put(longest, data)
        await box.take()
    assert box.ended() == {}
    assert box.ended("kcard") == {"done": ["b.csv"]}
    assert set(box.named) == {f"bcard/{longest}"}


async def test_the_longest_name_that_is_taken_can_be_put_away_with_its_cause_and_again(box: Box) -> None:
    longest = "n" * (NAME_BYTES_MAX - 4) + ".csv"
    for _ in range(2):
        box.put(longest, b"junk\nT,")
        await box.take()
    stem = longest.removesuffix(".csv")
    assert box.ended() == {"failed": [f"{stem}.2.csv", f"{stem}.2.why.txt", longest, f"{stem}.why.txt"]}


def folder_in_place_of(path: Path) -> None:
    path.unlink()
    path.mkdir()


def removed(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [folder_in_place_of, removed])
async def test_a_seal_that_is_changed_meanwhile_keeps_no_file_from_being_put_away(
    box: Box, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    box.put("a.csv", clearing_file(line(1)))
    seal = box.put("a.csv.hmac", b"seal")
    bring = box.importing.bring

    async def bring_and_change(source: ClearingFile) -> ImportReport:
        if source.name == "a.csv":
            change(seal)
        return await bring(source)

    monkeypatch.setattr(box.importing, "bring", bring_and_change)
    box.put("b.csv", clearing_file(line(2)))
    await box.take()
    assert box.ended() == {"done": ["a.csv", "b.csv"]}
    assert [p.name for p in box.mine.iterdir()] == (["a.csv.hmac"] if seal.exists() else [])


async def test_a_seal_that_came_before_the_next_file_of_a_name_is_left_for_it(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.put("a.csv", clearing_file(line(1)))
    box.put("a.csv.hmac", b"seal")
    bring = box.importing.bring

    async def bring_meanwhile(source: ClearingFile) -> ImportReport:
        box.put("a.csv.hmac", b"the next one's")
        return await bring(source)

    monkeypatch.setattr(box.importing, "bring", bring_meanwhile)
    await box.take()
    assert box.ended() == {"done": ["a.csv"]}
    assert {p.name: p.read_bytes() for p in box.mine.iterdir()} == {"a.csv.hmac": b"the next one's"}
    assert box.named == []


async def test_a_networks_folder_that_turns_into_a_file_meanwhile_holds_up_nobody(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.put("a.csv", clearing_file(line(1)))
    (box.inbox / "kcard").mkdir()
    (box.inbox / "kcard" / "b.csv").write_bytes(clearing_file(line(2), header=HEADER.replace("bcard", "kcard")))
    bring = box.importing.bring

    async def bring_and_change(source: ClearingFile) -> ImportReport:
        if source.name == "a.csv":
            (box.mine / "a.csv").unlink()
            box.mine.rmdir()
            box.mine.write_bytes(b"")
        return await bring(source)

    monkeypatch.setattr(box.importing, "bring", bring_and_change)
    await box.take()
    assert (box.ended(), box.ended("kcard")) == ({"done": ["a.csv"]}, {"done": ["b.csv"]})
    assert await box.take() == []
    assert box.named == ["bcard"]


@pytest.mark.parametrize("closed", ["listdir", "stat"])
async def test_a_networks_folder_that_is_closed_to_us_holds_up_nobody(
    box: Box, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    box.put("a.csv", clearing_file(line(1)))
    (box.inbox / "kcard").mkdir()
    (box.inbox / "kcard" / "b.csv").write_bytes(clearing_file(line(2), header=HEADER.replace("bcard", "kcard")))
    mine, asked = box.mine.stat(), getattr(os, closed)

    def ask(where: int | str | Path, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> object:
        folder = where if isinstance(where, int) else dir_fd
        if folder is not None and os.path.samestat(os.fstat(folder), mine):
            raise PermissionError(EACCES, "Permission denied")
        return asked(where) if closed == "listdir" else asked(where, dir_fd=dir_fd, follow_symlinks=follow_symlinks)

    with monkeypatch.context() as patched:
        patched.setattr(f"gateway.settlement.inbox.os.{closed}", ask)
        await box.take()
    assert (box.ended(), box.ended("kcard"), box.named) == ({}, {"done": ["b.csv"]}, ["bcard"])
    await box.take()
    assert box.ended() == {"done": ["a.csv"]}


async def test_a_state_folder_inside_the_inbox_is_refused(box: Box) -> None:
    with pytest.raises(ValueError, match="MYPAY_CLEARING_STATE_DIR"):
        ClearingInbox(box.inbox, box.inbox / "bcard" / "state", box.importing, box.quiet)  # type: ignore[arg-type]


async def test_what_is_judged_is_a_copy_that_nobody_changes(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    path = box.put("a.csv", clearing_file(line(1)))
    check = Seals.check

    def check_and_change(self: Seals, network_id: str, file: object, seals: object) -> None:
        check(self, network_id, file, seals)  # type: ignore[arg-type]
        path.write_bytes(clearing_file(line(1, amount=999_999)))

    monkeypatch.setattr(Seals, "check", check_and_change)
    [report] = await box.take()
    assert [r.amount_minor for b in box.kafka.batches for r in b.records] == [1000]  # type: ignore[attr-defined]
    assert (box.state / "bcard" / "done" / "a.csv").read_bytes() == clearing_file(line(1))
    # The other one that took its place stays, and is taken as a file of its own.
    assert path.exists()
    assert report.published == 1


async def test_a_seal_is_waited_for_and_then_asked_for(box: Box) -> None:
    seals: Seals = box.importing.seals  # type: ignore[assignment]
    seals.asked = frozenset({"bcard"})
    path = box.put("a.csv", clearing_file(line(1)))
    assert await box.take() == []
    assert path.exists()
    # Nor is it copied each time that it is looked at.
    assert list((box.state / "bcard" / "incoming").iterdir()) == []
    # As a shell makes it, while the command that writes it still reads the file.
    box.put("a.csv.hmac", b"")
    assert await box.take() == []
    (box.mine / "a.csv.hmac").write_text(hashlib.sha256(path.read_bytes()).hexdigest())
    [report] = await box.take()
    assert (report.published, box.named, list(box.mine.iterdir())) == (1, [], [])
    old(box.put("b.csv", clearing_file(line(2))))
    box.put("c.csv", clearing_file(line(3)))
    box.put("c.csv.hmac", b"0" * 64)
    assert [r.problems for r in await box.take()] == [("no seal",), ("no seal",)]
    assert box.kafka.record_numbers == [1]
    assert box.ended()["failed"] == ["b.csv", "b.why.txt", "c.csv", "c.why.txt"]


async def test_a_file_that_is_still_being_written_is_left_until_it_is_whole_or_old(box: Box) -> None:
    path = box.put("a.csv", clearing_file(line(1), trailer=""))
    await box.take()
    assert path.exists()
    path.write_bytes(clearing_file(line(1)))
    await box.take()
    assert box.kafka.record_numbers == [1]
    path.write_bytes(clearing_file(line(1), trailer=""))
    await box.take()
    assert path.exists()
    old(path)
    await box.take()
    assert box.ended()["failed"] == ["a.csv", "a.why.txt"]


async def test_a_name_that_was_used_before_loses_nothing(box: Box) -> None:
    for _ in range(3):
        box.put("a.csv", clearing_file(line(1)))
        await box.take()
    assert box.ended()["done"] == ["a.2.csv", "a.3.csv", "a.csv"]


async def test_the_inbox_waits_out_an_outage(box: Box) -> None:
    box.put("a.csv", clearing_file(line(1)))
    box.kafka.failures = 2
    assert len(await box.take()) == 1
    assert box.kafka.record_numbers == [1]


async def test_a_file_that_its_topic_does_not_take_holds_up_no_other(box: Box) -> None:
    """Tried for ever, it held up all networks' files."""
    (box.inbox / "kcard").mkdir()
    (box.inbox / "kcard" / "b.csv").write_bytes(clearing_file(line(2), header=HEADER.replace("bcard", "kcard")))
    box.put("a.csv", clearing_file(line(1)))
    box.kafka.narrow = "mypay.clearing.bcard"
    await box.take()
    assert box.kafka.record_numbers == [2]
    assert box.ended() == {"failed": ["a.csv", "a.why.txt"]}
    assert box.ended("kcard") == {"done": ["b.csv"]}
    assert "larger than topic mypay.clearing.bcard takes" in (box.state / "bcard" / "failed" / "a.why.txt").read_text()
    assert len(box.kafka.parked) == 1
    # As it lies there it can be brought again.
    box.kafka.narrow = None
    box.put("a.csv", (box.state / "bcard" / "failed" / "a.csv").read_bytes())
    await box.take()
    assert box.kafka.record_numbers == [2, 1]


async def test_two_processes_never_take_a_networks_files_at_once(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    other = ClearingInbox(box.inbox, box.state, box.importing, box.quiet)  # type: ignore[arg-type]
    box.put("a.csv", clearing_file(line(1)))
    taken: list[list[ImportReport]] = []
    bring = box.importing.bring

    async def bring_slowly(source: ClearingFile) -> ImportReport:
        taken.append(await other.take(NETWORKS))
        return await bring(source)

    monkeypatch.setattr(box.importing, "bring", bring_slowly)
    assert len(await box.take()) == 1
    assert taken == [[]]
    assert box.kafka.record_numbers == [1]
    box.put("b.csv", clearing_file(line(2)))
    monkeypatch.undo()
    assert len(await other.take(NETWORKS)) == 1


async def test_a_missing_inbox_is_an_empty_one(tmp_path: Path, box: Box) -> None:
    taking = ClearingInbox(tmp_path / "none", box.state, box.importing, box.quiet)  # type: ignore[arg-type]
    assert await taking.take(NETWORKS) == []


FULL = OSError(ENOSPC, os.strerror(ENOSPC))


@pytest.mark.parametrize("full", ["before", "meanwhile", "at once"])
async def test_what_there_is_no_room_for_waits_in_the_inbox_and_ends_nothing(
    box: Box, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    """It ended settlement, again and again: nothing that networks told over Kafka was settled any more either."""
    box.put("a.csv", clearing_file(line(1)))

    def no_room(*_: object, **__: object) -> object:
        raise FULL

    with monkeypatch.context() as patched:
        match full:
            case "before":
                patched.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3))
            case "meanwhile":
                patched.setattr(os, "fsync", no_room)
            case _:
                patched.setattr(Path, "mkdir", no_room)
        assert [await box.take() for _ in range(2)] == [[], []]
    assert box.kafka.published == []
    assert box.quiet.counted["not_taken"] == 1
    [told] = [fields for event, fields in box.quiet.notes if event == "clearing_file_not_taken"]
    assert str(told["reason"]) == f"cannot be kept in {box.state}: No space left on device"
    [report] = await box.take()
    assert report.published == 1
    assert box.ended() == {"done": ["a.csv"]}


async def test_a_cause_that_there_is_no_room_for_keeps_no_file_in_the_inbox(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object, **__: object) -> int:
        raise FULL

    monkeypatch.setattr(Path, "write_text", no_room)
    box.put("a.csv", clearing_file(line(1), trailer="T,9,9"))
    [report] = await box.take()
    assert report.problems
    assert box.ended() == {"failed": ["a.csv"]}
    assert await box.take() == []
