import base64
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.directory.cards import CardSealer, MasterKeyRing, new_token
from gateway.directory.funding import OwnedToken
from gateway.directory.store import Unopened
from gateway.network.exchange import CardData
from gateway.sealing.files import SecretFileError
from gateway.sealing.sealing import MasterKeys, NoMasterKeyError, Purpose, UnsealError
from schemas.primitives import CustomerId, FundingToken

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
KEYS = MasterKeys({"20260101": OLD})
CARD = CardData(pan="4111111111111111", expiry="2912")
SEALER = CardSealer(KEYS)
TOKEN = OwnedToken(FundingToken("tok-1"), CustomerId("cust-1"))


@given(st.from_regex(r"[0-9]{12,19}", fullmatch=True), st.none() | st.from_regex(r"[0-9]{4}", fullmatch=True))
def test_every_card_survives(pan: str, expiry: str | None) -> None:
    card = CardData(pan=pan, expiry=expiry)
    assert SEALER.open_card(TOKEN, SEALER.seal_card(TOKEN, card)) == card


def test_sealing_twice_gives_different_rows_without_the_number_in_them() -> None:
    one, two = SEALER.seal_card(TOKEN, CARD), SEALER.seal_card(TOKEN, CARD)
    assert one.nonce != two.nonce
    assert one.ciphertext != two.ciphertext
    assert CARD.pan.encode() not in one.ciphertext


@given(st.data())
def test_any_changed_byte_is_noticed(data: st.DataObject) -> None:
    sealed = SEALER.seal_card(TOKEN, CARD)
    name = data.draw(st.sampled_from(["nonce", "ciphertext"]))
    content = bytearray(getattr(sealed, name))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(UnsealError):
        SEALER.open_card(TOKEN, replace(sealed, **{name: bytes(content)}))


@pytest.mark.parametrize("length", [0, 5, 15])
def test_cut_rows_are_noticed(length: int) -> None:
    sealed = SEALER.seal_card(TOKEN, CARD)
    with pytest.raises(UnsealError):
        SEALER.open_card(TOKEN, replace(sealed, ciphertext=sealed.ciphertext[:length]))
    with pytest.raises(UnsealError):
        SEALER.open_card(TOKEN, replace(sealed, nonce=sealed.nonce[:length] if length < 12 else b""))


def test_a_row_moved_to_another_token_does_not_open() -> None:
    with pytest.raises(UnsealError):
        SEALER.open_card(TOKEN._replace(token=FundingToken("tok-2")), SEALER.seal_card(TOKEN, CARD))


def test_a_row_given_to_another_customer_does_not_open() -> None:
    sealed = SEALER.seal_card(TOKEN, CARD)
    with pytest.raises(UnsealError):
        SEALER.open_card(TOKEN._replace(customer_id=CustomerId("cust-2")), sealed)
    with pytest.raises(UnsealError):
        SEALER.open_unowned_card(TOKEN.token, sealed)


def test_a_card_from_before_there_were_owners_opens_for_none_of_them() -> None:
    sealed = KEYS.seal(Purpose.FUNDING_TOKEN, b"4111111111111111=2912", TOKEN.token)
    assert SEALER.open_unowned_card(TOKEN.token, sealed) == CARD
    for customer in ("cust-1", ""):
        with pytest.raises(UnsealError):
            SEALER.open_card(OwnedToken(TOKEN.token, CustomerId(customer)), sealed)


def test_token_ids_are_of_letters_and_of_more_than_128_bits() -> None:
    made = {new_token() for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch(r"[a-z]{28}", token) for token in made)
    assert 28 * math.log2(26) > 128
    # Every letter in every place: none of it is fixed.
    assert all(len({token[place] for token in made}) == 26 for place in range(28))


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
    before = SEALER.seal_card(TOKEN, CARD)
    rotated = CardSealer(MasterKeys({"20260101": OLD, "20260201": NEW}))
    after = rotated.seal_card(TOKEN, CARD)
    assert (before.key_id, after.key_id) == ("20260101", "20260201")
    assert rotated.open_card(TOKEN, before) == CARD
    with pytest.raises(NoMasterKeyError):
        SEALER.open_card(TOKEN, after)


def test_without_a_master_key_nothing_is_sealed() -> None:
    with pytest.raises(NoMasterKeyError):
        CardSealer(MasterKeys({})).seal_card(TOKEN, CARD)


@pytest.mark.parametrize(
    "card", [CardData("4111-1111"), CardData("1" * 11), CardData("1" * 20), CardData("1" * 16, "1")]
)
def test_what_is_no_card_is_refused_without_showing_it(card: CardData) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is asserted below
        SEALER.seal_card(TOKEN, card)
    assert card.pan not in str(caught.value)


def test_reprs_show_no_secret() -> None:
    sealed = SEALER.seal_card(TOKEN, CARD)
    shown = repr((KEYS, SEALER, sealed, CARD))
    assert repr(OLD)[2:-1] not in shown
    assert repr(sealed.ciphertext)[2:-1] not in shown
    assert CARD.pan not in shown


def test_keys_from_files(tmp_path: Path) -> None:
    assert len(MasterKeys.load(tmp_path / "nowhere")) == 0
    first = MasterKeys.create(tmp_path / "master")
    sealed = CardSealer(MasterKeys.load(tmp_path / "master")).seal_card(TOKEN, CARD)
    second = MasterKeys.create(tmp_path / "master")
    keys = MasterKeys.load(tmp_path / "master")
    assert first < second
    assert keys.newest == second
    assert CardSealer(keys).open_card(TOKEN, sealed) == CARD
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


def ring(directory: Path, *ids: str) -> None:
    directory.mkdir(mode=0o700, exist_ok=True)
    for number, key_id in enumerate(ids):
        path = directory / f"{key_id}.key"
        path.write_bytes(base64.b64encode(bytes([number]) * 32))
        path.chmod(0o600)


async def test_a_key_that_is_made_meanwhile_is_taken_up_and_asked_for_once_a_second(tmp_path: Path) -> None:
    ring(tmp_path / "keys", "a")
    now = 0.0
    opener = MasterKeyRing(tmp_path / "keys", monotonic=lambda: now)
    ring(tmp_path / "keys", "a", "b")
    sealed = CardSealer(MasterKeys.load(tmp_path / "keys")).seal_card(TOKEN, CARD)
    row = (sealed.key_id, sealed.nonce, sealed.ciphertext)
    assert sealed.key_id == "b"
    assert opener.open(TOKEN, *row) is Unopened.NO_KEY
    assert await opener.reload({"b"})
    assert opener.open(TOKEN, *row) == CARD
    assert opener.open(TOKEN, sealed.key_id, sealed.nonce, sealed.ciphertext[:-1]) is Unopened.CHANGED
    assert await opener.reload({"nowhere"})
    assert not await opener.reload({"nowhere"})
    assert await opener.reload({"nowhere", "c"})  # one that was never asked for may have been made this moment
    now = 1.0
    assert await opener.reload({"nowhere"})


async def test_a_directory_that_cannot_be_read_leaves_the_keys_as_they_are(tmp_path: Path) -> None:
    ring(tmp_path / "keys", "a")
    opener = MasterKeyRing(tmp_path / "keys")
    sealed = CardSealer(MasterKeys.load(tmp_path / "keys")).seal_card(TOKEN, CARD)
    (tmp_path / "keys" / "b.key").write_text("junk")
    assert not await opener.reload({"b"})
    assert opener.open(TOKEN, sealed.key_id, sealed.nonce, sealed.ciphertext) == CARD
