"""Rings of keys: what others could have put there is refused, and the text says what to do."""

import base64
import os
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway.app.errors import NotConfiguredError
from gateway.app.keys import RINGS, RINGS_OF, Ring, create_missing_rings, load_ring
from gateway.app.settings import Settings
from gateway.sealing import key_ring
from gateway.sealing.files import SecretFileError
from gateway.sealing.key_ring import create_key, read_ring, ring_ids
from schemas.primitives import holds_card_number

KEY = base64.b64encode(bytes(32))


@pytest.fixture
def ring(tmp_path: Path) -> Path:
    folder = tmp_path / "ring"
    create_key(folder)
    return folder


def test_no_key_is_named_by_what_looks_like_a_card_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operators could not retire it: every tenth one."""
    for moment in range(30):
        at = datetime(2026, 11, 27, 8, 1, 12, moment, tzinfo=UTC)
        monkeypatch.setattr(key_ring, "datetime", SimpleNamespace(now=lambda _, at=at: at))
        made = create_key(tmp_path / f"ring-{moment}")
        assert not holds_card_number(made)
        assert made >= f"{at:%Y%m%dT%H%M%S%fZ}"


def test_keys_are_read_as_they_were_made(ring: Path) -> None:
    second = create_key(ring)
    assert list(read_ring(ring)) == ring_ids(ring)
    assert ring_ids(ring)[-1] == second
    assert ring.stat().st_mode & 0o777 == 0o700
    assert read_ring(ring.parent / "nowhere") == {}


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o770, 0o777, 0o710])
def test_a_folder_that_is_open_to_others_is_refused(ring: Path, mode: int) -> None:
    ring.chmod(mode)
    with pytest.raises(SecretFileError, match=r"open to others \(mode 0\d{3}\): chmod 700"):
        read_ring(ring)
    with pytest.raises(SecretFileError, match="chmod 700"):
        create_key(ring)


def test_a_folder_or_file_that_is_a_link_is_refused(ring: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(ring)
    with pytest.raises(SecretFileError, match="symbolic link"):
        read_ring(tmp_path / "link")
    with pytest.raises(SecretFileError, match="symbolic link"):
        create_key(tmp_path / "link")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(KEY)
    elsewhere.chmod(0o600)
    (ring / "20270101.key").symlink_to(elsewhere)
    with pytest.raises(SecretFileError, match="symbolic link"):
        read_ring(ring)


def test_what_is_no_folder_and_no_file_is_refused(ring: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(KEY)
    with pytest.raises(SecretFileError, match="no folder"):
        read_ring(tmp_path / "file")
    os.mkfifo(ring / "20270101.key", 0o600)
    with pytest.raises(SecretFileError, match="no regular file"):
        read_ring(ring)


def test_what_belongs_to_another_user_is_refused(ring: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Path.lstat

    class Foreign:
        def __init__(self, of: os.stat_result) -> None:
            self.st_mode, self.st_uid = of.st_mode, of.st_uid + 4711

    monkeypatch.setattr(key_ring.Path, "lstat", lambda self: Foreign(found(self)))
    with pytest.raises(SecretFileError, match="belongs to another user"):
        read_ring(ring)


# --- which process holds what ---


def settings(tmp_path: Path) -> Settings:
    return Settings(**{use.setting: tmp_path / ring for ring, use in RINGS.items()})  # type: ignore[arg-type]


@pytest.mark.parametrize("ring", list(Ring))
def test_an_empty_ring_is_told_by_name_with_the_command_that_fills_it(tmp_path: Path, ring: Ring) -> None:
    with pytest.raises(NotConfiguredError) as told:
        load_ring(settings(tmp_path), ring)
    assert f"{RINGS[ring].variable}" in str(told.value)
    assert f"`mypay keys create {ring}`" in str(told.value)
    assert RINGS[ring].variable.removeprefix("MYPAY_").lower() in Settings.model_fields


def test_a_ring_that_cannot_be_used_is_told_by_the_name_of_its_setting(tmp_path: Path) -> None:
    create_missing_rings(settings(tmp_path))
    (tmp_path / "internal").chmod(0o755)
    with pytest.raises(NotConfiguredError, match=r"MYPAY_INTERNAL_KEYS_DIR: .* is open to others"):
        load_ring(settings(tmp_path), Ring.INTERNAL)


def test_missing_rings_are_made_once(tmp_path: Path) -> None:
    assert set(create_missing_rings(settings(tmp_path))) == set(Ring)
    assert create_missing_rings(settings(tmp_path)) == {}
    assert len(load_ring(settings(tmp_path), Ring.CARDS)) == 1


def test_a_local_stack_makes_keys_in_its_own_folder_alone(tmp_path: Path) -> None:
    elsewhere = Settings(
        master_keys_dir=tmp_path / "var" / "keys" / "master",
        dead_letter_keys_dir=tmp_path / "etc" / "dead-letter",
        internal_keys_dir=tmp_path / "var" / ".." / "etc" / "internal",
    )
    assert set(create_missing_rings(elsewhere, within=tmp_path / "var")) == {Ring.CARDS}
    assert not (tmp_path / "etc").exists()


def test_who_parses_what_strangers_send_holds_no_key_that_opens_cards() -> None:
    assert {stage for stage, rings in RINGS_OF.items() if Ring.CARDS in rings} == {"execution"}
