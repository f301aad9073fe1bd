"""A recipient's key pair, as the command makes it."""

from pathlib import Path

from tests.support.cli import mypay


def test_no_private_key_is_left_where_the_public_one_cannot_be_written(tmp_path: Path) -> None:
    private, nowhere = tmp_path / "own.json", tmp_path / "missing" / "bank.json"
    ended = mypay("recipient", "key", "generate", "--out", private, "--public", nowhere)
    assert (ended.code, str(nowhere) in ended.err) == (1, True)
    assert not private.exists()


def test_a_private_key_that_was_there_stays(tmp_path: Path) -> None:
    private = tmp_path / "own.json"
    private.write_text("another")
    mypay("recipient", "key", "generate", "--out", private, "--public", tmp_path / "bank.json").expect(1)
    assert private.read_text() == "another"
    assert not (tmp_path / "bank.json").exists()
