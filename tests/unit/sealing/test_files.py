"""Files that hold a secret are written whole, or not at all."""

import errno
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.disclosure.signing import create_key
from gateway.sealing.files import write_secret_file


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)


@pytest.mark.usefixtures("full_disk")
def test_what_a_full_disk_did_not_take_is_told_by_name_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left") as told:
        write_secret_file(tmp_path / "secret", b"x")
    assert told.value.filename == str(tmp_path / "secret")
    assert list(tmp_path.iterdir()) == []


def test_a_secret_is_never_overwritten_and_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "secret"
    write_secret_file(path, b"x")
    with pytest.raises(FileExistsError):
        write_secret_file(path, b"y")
    assert path.read_bytes() == b"x"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.usefixtures("full_disk")
def test_a_key_of_the_log_that_a_full_disk_did_not_take_signs_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        create_key(tmp_path, datetime.now(UTC))
    assert list(tmp_path.iterdir()) == []
