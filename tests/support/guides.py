"""The guides as a reader follows them: every code block, in order, in one shell on an empty stack.

A comment above a block says how it is read where it is not simply run:

``<!-- not run: why -->``               a reader runs it, a test cannot; its commands are looked up all the same
``<!-- run with "new" for "old": why -->``  run in another size
``<!-- exit code N -->``                its last command ends so
``<!-- until stopped -->``              it does not end by itself: its output is waited for, then it is stopped
``<!-- last -->``                       run when all the guides are through
``<!-- output -->``                     what the block above prints; ids, days and times may be others; ``…`` is
                                        anything, on a line of its own any lines
``<!-- output, other figures -->``      the same, and every number but 0 may be another
``<!-- body: TYPE -->``                 JSON that somebody sends under this CloudEvents type
``<!-- link -->``                       JSON of what an identity provider is asked to prove
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import textwrap
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.proving import stack as local

ROOT: Final = Path(__file__).parents[2]
BLOCK_S: Final = 180.0
"""No block takes longer on a busy machine."""

_FENCE: Final = re.compile(r"^( *)```(\w*)$")
_MARK: Final = re.compile(r"^ *<!-- (.*) -->$")
_WITH: Final = re.compile(r'run with "(.*?)" for "(.*?)": .+')
# Ids that are new each time, days and times.
_HEX: Final = re.compile(r"(?<![0-9a-z])[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<![0-9a-z])[0-9a-f]{32}")
_CLOCK: Final = re.compile(r"\d{4}-\d\d-\d\d|\d\d:\d\d(?::\d\d(?:\.\d+)?)?")
_NUMBER: Final = re.compile(r"\d[\d,.]*\d|\d")
_MARKS: Final = re.compile(
    r'not run: .+|run with ".*" for ".*": .+|exit code \d+|until stopped|last|output|output, other figures'
    r"|body: [\w.-]+|link"
)


class GuideError(AssertionError):
    """A guide says what is not so; names the page and the line."""


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        line: where its text begins.
        mark: the comment directly above it, without its arrows.
    """

    page: str
    line: int
    language: str
    text: str
    mark: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_output(self) -> bool:
        return self.mark.startswith("output")

    @property
    def not_run(self) -> str:
        """Why it is not run; empty where it is."""
        return self.mark.removeprefix("not run: ") if self.mark.startswith("not run: ") else ""


def blocks(page: str, root: Path = ROOT) -> list[Block]:
    """The blocks of a page.

    Raises:
        GuideError: a block's comment is none of those that are known, or a block has no end.
    """
    found: list[Block] = []
    lines = (root / page).read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        opening = _FENCE.match(lines[number])
        number += 1
        if opening is None:
            continue
        above = _MARK.match(lines[number - 2]) if number > 1 else None
        mark = above[1] if above and not above[1].startswith(("generated:", "end")) else ""
        begin = number
        while number < len(lines) and lines[number].strip() != "```":
            number += 1
        if number == len(lines):
            raise GuideError(f"{page}:{begin}: the block has no end")
        text = textwrap.dedent("\n".join(lines[begin:number])) + "\n"
        block = Block(page, begin + 1, opening[2], text, mark)
        if mark and not _MARKS.fullmatch(mark):
            raise GuideError(f"{block}: no such comment: {mark}")
        found.append(block)
        number += 1
    return found


def matches(told: str, got: str, *, other_figures: bool = False) -> bool:
    """True if ``got`` is what a guide shows."""
    return re.fullmatch(_pattern(told, other_figures=other_figures), _trimmed(got), re.DOTALL) is not None


def _pattern(told: str, *, other_figures: bool) -> str:
    lines: list[str] = []
    for line in _trimmed(told).splitlines():
        if line.strip() == "…":
            lines.append(r"(?:[^\n]*\n)*?")
            continue
        parts = [_figures(part) if other_figures else _new_each_time(part) for part in line.split("…")]
        lines.append(r"[^\n]*".join(parts) + "\n")
    return "".join(lines)


def _figures(text: str) -> str:
    return _replaced(text, _NUMBER, lambda number: "0" if number == "0" else r"\d[\d,.]*", re.escape)


def _new_each_time(text: str) -> str:
    def of_clock(part: str) -> str:
        return _replaced(part, _CLOCK, lambda time: re.sub(r"\d", r"\\d", re.escape(time)), re.escape)

    return _replaced(text, _HEX, lambda known: re.sub("[0-9a-f]", "[0-9a-f]", known), of_clock)


def _replaced(text: str, what: re.Pattern[str], by: Callable[[str], str], rest: Callable[[str], str]) -> str:
    out, at = "", 0
    for match in what.finditer(text):
        out += rest(text[at : match.start()]) + by(match[0])
        at = match.end()
    return out + rest(text[at:])


def _trimmed(text: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in text.strip("\n").splitlines())


class Reader:
    """Somebody at a terminal in a fresh clone, with a stack of their own.

    Only addresses are other than a reader's: two readers on one machine must not meet.
    """

    def __init__(self, replaced: Mapping[str, str], root: Path = ROOT) -> None:
        """``replaced``: what stands in the guides and in ``deploy`` → what is used instead; ``root``: of the clone."""
        self._replaced = dict(replaced)
        self._root = root
        # Short: sockets below it have a longest name.
        self.folder = Path(tempfile.mkdtemp(prefix="reader-"))
        self._blocks = 0
        self._last: list[Block] = []
        self._output = ""
        self._clone()
        environment = {n: v for n, v in os.environ.items() if not n.startswith("MYPAY_")}
        self._shell = subprocess.Popen(
            ["/bin/bash", "--noprofile", "--norc"],
            cwd=self.folder,
            env={**environment, "COLUMNS": "120", "LC_ALL": "C.UTF-8", "NO_COLOR": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._give("set -o pipefail; trap 'echo \"$? $BASH_COMMAND\" >> failed' ERR; set -E")

    def _clone(self) -> None:
        for entry in self._root.iterdir():
            if entry.name not in {"var", "deploy", ".git", ".env"}:
                (self.folder / entry.name).symlink_to(entry)
        if (self._root / "deploy").exists():
            shutil.copytree(self._root / "deploy", self.folder / "deploy")
        for file in (self.folder / "deploy").rglob("*.toml"):
            file.write_text(self._own(file.read_text(encoding="utf-8")), encoding="utf-8")

    def _own(self, text: str) -> str:
        for old, new in self._replaced.items():
            text = text.replace(old, new)
        return text

    def follow(self, page: str) -> None:
        """Do what a page says, from top to bottom.

        Raises:
            GuideError: something did not go as the page says, or it is not said how a block is read.
        """
        for block in blocks(page, self._root):
            if block.mark == "last":
                self._last.append(block)
            elif not block.not_run and not block.mark.startswith(("body:", "link")):
                self._do(block)

    def finish(self) -> None:
        """Do what the pages say that comes at the end."""
        for block in self._last:
            self._do(block)
        self._last = []

    def _do(self, block: Block) -> None:
        match block.language, block.mark:
            case _, mark if block.is_output:
                self._compare(block, other_figures="," in mark)
            case "sh" | "python", "until stopped":
                self._run_until_stopped(block)
            case "sh" | "python", _:
                self._run(block)
            case _:
                raise GuideError(f"{block}: a block of {block.language or 'no language'} that nobody reads")

    def _run(self, block: Block) -> None:
        wanted = int(block.mark.removeprefix("exit code ")) if block.mark.startswith("exit code ") else 0
        code, failed = self._sourced(block)
        if code != wanted or (failed and not wanted):
            raise GuideError(f"{block}: exit code {code}, wanted {wanted}: {failed}\n{block.text}\n{self._output}")

    def _sourced(self, block: Block) -> tuple[int, str]:
        out, failures = self._written(block), self.folder / "failed"
        failures.unlink(missing_ok=True)
        done = self.folder / f"done-{self._blocks}"
        self._give(f"{self._command(block)} > {out} 2>&1; echo $? > {done}.part; mv {done}.part {done}")
        self._await(block, done.exists)
        self._output = out.read_text(encoding="utf-8", errors="replace")
        failed = failures.read_text(encoding="utf-8") if failures.exists() else ""
        return int(done.read_text()), failed.strip()

    def _run_until_stopped(self, block: Block) -> None:
        out = self._written(block)
        self._give(f"{self._command(block)} > {out} 2>&1 & endless=$!")
        shown = next(b for b in blocks(block.page, self._root) if b.line > block.line)
        if not shown.is_output:
            raise GuideError(f"{block}: it is not said what this prints until it is stopped")

        def told() -> bool:
            self._output = out.read_text(encoding="utf-8", errors="replace") if out.exists() else ""
            return matches(shown.text, self._output, other_figures="," in shown.mark)

        self._await(block, told)
        self._give("kill $endless; wait $endless || rm -f failed")

    def _written(self, block: Block) -> Path:
        self._blocks += 1
        text = block.text
        if swapped := _WITH.fullmatch(block.mark):
            if swapped[2] not in text:
                raise GuideError(f'{block}: "{swapped[2]}" is not there')
            text = text.replace(swapped[2], swapped[1])
        (self.folder / f"block-{self._blocks}").write_text(self._own(text), encoding="utf-8")
        return self.folder / f"out-{self._blocks}"

    def _command(self, block: Block) -> str:
        name = f"./block-{self._blocks}"
        return f"source {name}" if block.language == "sh" else f"PYTHONUNBUFFERED=1 python {name}"

    def _compare(self, block: Block, *, other_figures: bool) -> None:
        got = self._output
        if not matches(self._own(block.text), got, other_figures=other_figures):
            raise GuideError(f"{block}: shown is\n{block.text}\nprinted was\n{got}")

    def _give(self, line: str) -> None:
        assert self._shell.stdin is not None
        self._shell.stdin.write(line.encode() + b"\n")
        self._shell.stdin.flush()

    def _await(self, block: Block, happened: Callable[[], bool]) -> None:
        end = time.monotonic() + BLOCK_S
        while not happened():
            if self._shell.poll() is not None:
                raise GuideError(f"{block}: the shell ended")
            if time.monotonic() > end:
                raise GuideError(f"{block}: takes longer than {BLOCK_S:g} s\n{block.text}\n{self._printed()}")
            time.sleep(0.02)

    def _printed(self) -> str:
        out = self.folder / f"out-{self._blocks}"
        return out.read_text(encoding="utf-8", errors="replace") if out.exists() else ""

    def leave(self) -> None:
        """Stop everything that was started here, whatever became of it, and remove it."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._shell.pid, number)
            except ProcessLookupError:
                break
            try:
                self._shell.wait(10)
            except subprocess.TimeoutExpired:
                continue
        # Servers outlive the shell that started them.
        for record in (self.folder / "var").glob("*/kafka.json"):
            local.reset(record.parent.name, home=self.folder / "var")
        shutil.rmtree(self.folder, ignore_errors=True)
