"""Settings that a careless hand wrote: told by name, never passed over."""

import os
import threading
from pathlib import Path

import pytest

from gateway.app.environment import WrongSettingError, read_settings


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [n for n in os.environ if n.startswith("MYPAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_mark_of_the_encoding_and_line_ends_of_windows_are_no_part_of_a_setting(nowhere: Path) -> None:
    (nowhere / ".env").write_bytes(b"\xef\xbb\xbfMYPAY_STACK=first\r\nMYPAY_HOME=second\r\n")
    settings = read_settings()
    assert (settings.stack, settings.home) == ("first", Path("second"))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"MYPAY_STACK=caf\xe9\n", "not UTF-8"),
        (b"# of the stack\nMYPAY_HOME=here\nMYPAY_STACK='secret\n", "in line 3"),
    ],
)
def test_a_file_of_which_a_line_would_be_passed_over_is_refused(nowhere: Path, content: bytes, told: str) -> None:
    (nowhere / ".env").write_bytes(content)
    with pytest.raises(WrongSettingError, match=told) as caught:
        read_settings()
    assert str(caught.value).startswith(".env")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("value", ["inf", "nan", "1e999", "1e300", "31622401"])
def test_no_time_is_without_end(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that was disabled would go on working for ever."""
    monkeypatch.setenv("MYPAY_REGISTRY_REFRESH_S", value)
    with pytest.raises(WrongSettingError, match="MYPAY_REGISTRY_REFRESH_S: must be"):
        read_settings()


def test_a_pipe_in_the_files_place_is_refused_and_not_waited_for(nowhere: Path) -> None:
    """A thread reads it in vain where it is not refused: the test would end all the same, and fail."""
    os.mkfifo(nowhere / ".env")
    told: list[str] = []
    read = threading.Thread(target=_refused, args=(told,), daemon=True)
    read.start()
    read.join(10)
    assert told == [".env cannot be read: it is a pipe, not a file"]


def _refused(told: list[str]) -> None:
    try:
        read_settings()
    except WrongSettingError as error:
        told.append(str(error))


@pytest.mark.parametrize("name", ["MYPAY_HOME", "MYPAY_ARCHIVE_DIR", "MYPAY_KAFKA_CREDENTIALS_DIR"])
def test_no_path_is_empty(name: str, nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was the folder that the process stood in: archives and keys were looked for, and written, there."""
    (nowhere / ".env").write_text(f"{name}=\n")
    with pytest.raises(WrongSettingError, match=f"{name}: is empty"):
        read_settings()
    monkeypatch.setenv(name, "somewhere")
    assert read_settings()


@pytest.mark.parametrize("home", ["/dev/null", "file"])
def test_local_state_is_in_a_folder(home: str, nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (nowhere / "file").touch()
    monkeypatch.setenv("MYPAY_HOME", home)
    with pytest.raises(WrongSettingError, match="MYPAY_HOME: is no folder"):
        read_settings()
