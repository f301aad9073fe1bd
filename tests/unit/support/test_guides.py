"""Whoever follows a guide in the tests does all that it says, and finds what is not so."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.guides import GuideError, Reader, blocks, matches

Follow = Callable[[str], None]


@pytest.fixture
def follow(tmp_path: Path) -> Iterator[Follow]:
    """Do what a text says, to the end."""
    readers: list[Reader] = []

    def do(text: str) -> None:
        (tmp_path / "page.md").write_text(text, encoding="utf-8")
        readers.append(Reader({"8583": "1234"}, root=tmp_path))
        readers[-1].follow("page.md")
        readers[-1].finish()

    yield do
    for reader in readers:
        reader.leave()
        assert not reader.folder.exists()


def sh(*lines: str) -> str:
    return "\n".join(["```sh", *lines, "```", ""])


def shown(*lines: str, mark: str = "output") -> str:
    return "\n".join([f"<!-- {mark} -->", "```text", *lines, "```", ""])


HERE = sh(f"PATH={Path(sys.executable).parent}:$PATH")


def test_blocks_are_run_in_order_in_one_shell(follow: Follow) -> None:
    follow(sh("A=1; export B=2", "sleep 100 &") + sh("echo $A $B 8583", "kill %1; wait %1 || true") + shown("1 2 1234"))


def test_a_program_is_run_in_the_same_place(follow: Follow) -> None:
    follow(
        HERE
        + sh("export A=1", "echo 7 > file")
        + "```python\nimport os\nprint(os.environ['A'] + open('file').read())\n```\n"
        + shown("17")
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (sh("false"), "wanted 0"),
        (sh("false", "true"), "1 false"),
        (sh("false | true"), "1 true"),
        ("<!-- exit code 3 -->\n" + sh("true"), "exit code 0, wanted 3"),
        (sh("echo 1") + shown("2"), "printed was"),
        (sh("echo lost=1") + shown("lost=0", mark="output, other figures"), "printed was"),
        ("```\nls\n```\n", "that nobody reads"),
        ("```toml\na = 1\n```\n", "that nobody reads"),
        ('<!-- run with "1" for "2": less -->\n' + sh("echo 3"), '"2" is not there'),
        ("<!-- last -->\n" + sh("false") + sh("true"), "wanted 0"),
        ("<!-- until stopped -->\n" + sh("sleep 100") + sh("true"), "not said what this prints"),
        (sh("exit 0"), "the shell ended"),
    ],
)
def test_what_is_not_so_is_found(follow: Follow, text: str, told: str) -> None:
    with pytest.raises(GuideError, match=told):
        follow(text)


def test_a_block_may_end_otherwise_be_smaller_or_come_last(follow: Follow) -> None:
    follow(
        "<!-- last -->\n"
        + sh("test $(cat file) = 5")
        + "<!-- exit code 3 -->\n"
        + sh("(exit 3)")
        + '<!-- run with "echo 5" for "echo 500": less -->\n'
        + sh("echo 500 > file")
        + "<!-- not run: it would not end -->\n"
        + sh("sleep 1000")
    )


def test_a_program_that_does_not_end_is_stopped_once_it_has_told(follow: Follow) -> None:
    loop = "import time\nprint('begun')\nwhile True:\n    print(time.time())\n    time.sleep(0.01)\n"
    page = (
        f"<!-- until stopped -->\n```python\n{loop}```\n"
        + shown("begun", "…")
        + sh("wait", "echo over")
        + shown("over")
    )
    follow(page)


def test_what_is_shown_is_compared() -> None:
    assert matches("a 1\n…\nz\n", "a 1  \nb\nc\nz\n\n")
    assert matches("…\nz\n", "z\n")
    assert not matches("a 1\nz\n", "a 1\nb\nz\n")
    assert matches("id … paid\n", "id 7f-3 paid\n")
    assert not matches("id … paid\n", "id 7f-3\npaid\n")
    assert not matches("1 of 2\n", "1 of 3\n")
    uuid, other = "52de4dc4-82e1-5111-bb3a-b0b396c08dd1", "e1e9ec38-8ec9-59f5-aff1-105452dc288b"
    assert matches(f"{uuid} on 2026-11-28 00:00\n", f"{other} on 2027-01-02 13:59\n")
    assert matches(f"{uuid.replace('-', '')}.\n", f"{other.replace('-', '')}.\n")
    assert not matches(f"{uuid} on 2026-11-28\n", f"{other} on\n")
    assert not matches(f"{uuid}\n", f"{uuid[:-1]}\n")
    assert not matches("2026-000212\n", "2026-000213\n")
    assert matches("1 of 20, lost=0\n", "70 of 3, lost=0\n", other_figures=True)
    assert not matches("lost=0\n", "lost=1\n", other_figures=True)
    assert not matches("lost=10\n", "lost=\n", other_figures=True)


def test_blocks_are_read_with_their_comments(tmp_path: Path) -> None:
    page = "text\n<!-- not run: it is for others -->\n```sh\nls\n```\n\n1. item\n\n   ```text\n   x\n    y\n   ```\n"
    (tmp_path / "page.md").write_text(page, encoding="utf-8")
    first, second = blocks("page.md", tmp_path)
    assert (first.language, first.text, first.not_run, str(first)) == ("sh", "ls\n", "it is for others", "page.md:4")
    assert (second.language, second.text, second.mark) == ("text", "x\n y\n", "")


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ("<!-- not run -->\n```sh\nls\n```\n", "no such comment: not run"),
        ("<!-- skip: later -->\n```sh\nls\n```\n", "no such comment"),
        ("```sh\nls\n", "no end"),
    ],
)
def test_a_block_that_is_not_run_needs_a_reason(tmp_path: Path, page: str, told: str) -> None:
    (tmp_path / "page.md").write_text(page, encoding="utf-8")
    with pytest.raises(GuideError, match=told):
        blocks("page.md", tmp_path)
