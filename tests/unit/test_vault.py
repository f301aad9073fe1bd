import base64
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.adapters.crypto.files import SecretFileError
from gateway.adapters.crypto.vault import (
    CardSealer,
    MasterKeys,
    NoMasterKeyError,
    Purpose,
    UnsealError,
)
from gateway.domain.exchange import CardData

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
KEYS = MasterKeys({"20260101": OLD})
CARD = CardData(pan="4111111111111111", expiry="2912")
SEALER = CardSealer(KEYS)


@given(st.from_regex(r"[0-9]{12,19}", fullmatch=True), st.none() | st.from_regex(r"[0-9]{4}", fullmatch=True))
def test_every_card_survives(pan: str, expiry: str | None) -> None:
    card = CardData(pan=pan, expiry=expiry)
    assert SEALER.open_card("tok-1", SEALER.seal_card("tok-1", card)) == card


def test_sealing_twice_gives_different_rows_without_the_number_in_them() -> None:
    one, two = SEALER.seal_card("tok-1", CARD), SEALER.seal_card("tok-1", CARD)
    assert one.nonce != two.nonce
    assert one.ciphertext != two.ciphertext
    assert CARD.pan.encode() not in one.ciphertext


@given(st.data())
def test_any_changed_byte_is_noticed(data: st.DataObject) -> None:
    sealed = SEALER.seal_card("tok-1", CARD)
    name = data.draw(st.sampled_from(["nonce", "ciphertext"]))
    content = bytearray(getattr(sealed, name))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(UnsealError):
        SEALER.open_card("tok-1", replace(sealed, **{name: bytes(content)}))


@pytest.mark.parametrize("length", [0, 5, 15])
def test_cut_rows_are_noticed(length: int) -> None:
    sealed = SEALER.seal_card("tok-1", CARD)
    with pytest.raises(UnsealError):
        SEALER.open_card("tok-1", replace(sealed, ciphertext=sealed.ciphertext[:length]))
    with pytest.raises(UnsealError):
        SEALER.open_card("tok-1", replace(sealed, nonce=sealed.nonce[:length] if length < 12 else b""))


def test_a_row_moved_to_another_token_does_not_open() -> None:
    with pytest.raises(UnsealError):
        SEALER.open_card("tok-2", SEALER.seal_card("tok-1", CARD))


def test_the_key_id_is_authenticated() -> None:
    keys = MasterKeys({"a": OLD, "b": OLD})
    sealed = keys.seal(Purpose.FUNDING_TOKEN, b"x", "tok-1")
    assert sealed.key_id == "b"
    with pytest.raises(UnsealError):
        keys.open(Purpose.FUNDING_TOKEN, replace(sealed, key_id="a"), "tok-1")


def test_what_is_sealed_for_one_purpose_opens_for_no_other() -> None:
    sealed = KEYS.seal(Purpose.DEAD_LETTER, b"x", "tok-1")
    assert KEYS.open(Purpose.DEAD_LETTER, sealed, "tok-1") == b"x"
    with pytest.raises(UnsealError):
        KEYS.open(Purpose.FUNDING_TOKEN, sealed, "tok-1")


def test_rotation_seals_with_the_newest_and_opens_with_all() -> None:
    before = SEALER.seal_card("tok-1", CARD)
    rotated = CardSealer(MasterKeys({"20260101": OLD, "20260201": NEW}))
    after = rotated.seal_card("tok-1", CARD)
    assert (before.key_id, after.key_id) == ("20260101", "20260201")
    assert rotated.open_card("tok-1", before) == CARD
    with pytest.raises(NoMasterKeyError):
        SEALER.open_card("tok-1", after)


def test_without_a_master_key_nothing_is_sealed() -> None:
    with pytest.raises(NoMasterKeyError):
        CardSealer(MasterKeys({})).seal_card("tok-1", CARD)


@pytest.mark.parametrize(
    "card", [CardData("4111-1111"), CardData("1" * 11), CardData("1" * 20), CardData("1" * 16, "1")]
)
def test_what_is_no_card_is_refused_without_showing_it(card: CardData) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is asserted below
        SEALER.seal_card("tok-1", card)
    assert card.pan not in str(caught.value)


def test_reprs_show_no_secret() -> None:
    sealed = SEALER.seal_card("tok-1", CARD)
    shown = repr((KEYS, SEALER, sealed, CARD))
    assert repr(OLD)[2:-1] not in shown
    assert repr(sealed.ciphertext)[2:-1] not in shown
    assert CARD.pan not in shown


def test_keys_from_files(tmp_path: Path) -> None:
    assert len(MasterKeys.load(tmp_path / "nowhere")) == 0
    first = MasterKeys.create(tmp_path / "master")
    sealed = CardSealer(MasterKeys.load(tmp_path / "master")).seal_card("tok-1", CARD)
    second = MasterKeys.create(tmp_path / "master")
    keys = MasterKeys.load(tmp_path / "master")
    assert first < second
    assert keys.newest == second
    assert CardSealer(keys).open_card("tok-1", sealed) == CARD
    assert {p.stat().st_mode & 0o777 for p in (tmp_path / "master").iterdir()} == {0o600}


@pytest.mark.parametrize(
    ("content", "mode", "problem"),
    [
        (base64.b64encode(OLD), 0o644, "open to others"),
        (base64.b64encode(OLD), 0o620, "open to others"),
        (base64.b64encode(OLD[:31]), 0o600, "does not hold 32 bytes"),
        (b"!" * 44, 0o600, "is not base64"),
        (b"A" * 70_000, 0o600, "too large"),
    ],
)
def test_unfit_key_files_are_refused(content: bytes, mode: int, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "20260101.key"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(SecretFileError, match=problem):
        MasterKeys.load(tmp_path)


def test_group_readable_files_are_accepted_as_mounted_secrets_are(tmp_path: Path) -> None:
    path = tmp_path / "20260101.key"
    path.write_bytes(base64.b64encode(OLD) + b"\n")
    path.chmod(0o440)
    assert MasterKeys.load(tmp_path).newest == "20260101"


@pytest.mark.parametrize(("key_id", "key"), [("a/b", OLD), ("", OLD), ("a", OLD[:16])])
def test_ids_and_keys_of_the_wrong_form_are_refused(key_id: str, key: bytes) -> None:
    with pytest.raises(ValueError, match="master key"):
        MasterKeys({key_id: key})
