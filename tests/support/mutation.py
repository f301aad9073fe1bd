"""Changes every pure rule in every small way and shows which changes no test sees: ``make mutants``.

mutmut does the changing. What survives and is argued in ``mutation_survivors.toml`` is not shown again; anything else
that survives, or that no test reaches, makes this fail. A run begins anew each time: mutmut keeps what it found of a
function as long as the function is the same, whatever has become of its tests.

mutmut leaves alone what stands under a decorator: the methods of dataclasses, properties, memoised functions.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from typer import echo

SURVIVORS: Final = Path(__file__).with_name("mutation_survivors.toml")
HOUSE: Final = "gateway."
WORK: Final = Path("mutants")
LOG: Final = WORK / "log.txt"
LITERAL: Final = re.compile(r"\"[^\"]*\"|'[^']*'")

# mutmut 3.7 asks for what pytest 9.2 calls otherwise, and 3.8 needs a click that Faust cannot do with.
MUTMUT: Final = """
import sys
from _pytest.nodes import Node
Node._nodeid = property(lambda self: self.nodeid)
sys.path.insert(0, "")
from mutmut.__main__ import PytestRunner, cli

run_tests = PytestRunner.run_tests

def run_afresh(self, *, mutant_name, tests):
    # What a rule remembers it has found before it was changed.
    for name, module in list(sys.modules.items()):
        if name.startswith("gateway."):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()
    return run_tests(self, mutant_name=mutant_name, tests=tests)

PytestRunner.run_tests = run_afresh
cli()
"""


@dataclass(frozen=True, slots=True)
class Survivor:
    """A change that no test saw.

    Attributes:
        function: where, without the house: ``consents.rules.limits.reserve``.
        to: what the line became; lines joined by blanks.
        status: of mutmut: ``survived``, ``no tests``, ``timeout`` …
    """

    function: str
    to: str
    status: str


def argued(found: Survivor, table: dict[str, Any]) -> bool:
    """True if the table says why this change may live."""
    if any(found.to.startswith(begins) for begins in table["never_reached"]) or found.function in table["never_tried"]:
        return True
    return any(one["function"] == found.function and one["to"] == found.to for one in table["argued"])


def changed(diff: str) -> tuple[str, str]:
    """The lines that went and the lines that came, each with single blanks."""
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    gone = " ".join(" ".join(line[1:] for line in lines if line.startswith("-")).split())
    came = " ".join(" ".join(line[1:] for line in lines if line.startswith("+")).split())
    return gone, came


def only_words(gone: str, came: str) -> bool:
    """True if nothing differs but the letters of sentences for people; no test reads those letter by letter."""
    before, after = LITERAL.findall(gone), LITERAL.findall(came)
    if len(before) != len(after) or LITERAL.sub("", gone) != LITERAL.sub("", came):
        return False
    differing = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    return all(" " in old and new.replace("XX", "").casefold() == old.casefold() for old, new in differing)


def survivors() -> Iterator[tuple[str, Survivor | None]]:
    """Module of every mutant that was tried, with what survived of it."""
    from mutmut import __main__ as mutmut  # noqa: PLC0415 - reads its settings when it is imported

    for path in mutmut.walk_mutatable_files():
        data = mutmut.SourceFileMutationData(path=path)
        data.load()
        for name, code in data.exit_code_by_key.items():
            status = mutmut.status_by_exit_code[code]
            if status == "not checked":
                continue
            function = name.partition("__mutmut_")[0].removeprefix(HOUSE).replace(".x_", ".").replace(".xǁ", ".")
            module = function.rpartition(".")[0]
            if status in {"killed", "timeout"}:
                yield module, None
                continue
            gone, came = changed(mutmut.get_diff_for_mutant(name, path=path))
            if only_words(gone, came):
                yield module, None
                continue
            yield module, Survivor(function.replace("ǁ", "."), came or f"without {gone}", status)


def run(patterns: Sequence[str]) -> int:
    """Try every change that the patterns name and tell what survives; mutmut's own words go to a file."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir()
    echo(f"Changing {', '.join(patterns) or 'every rule'}; this takes minutes. mutmut writes to {LOG}")
    with LOG.open("w") as log:
        command = [sys.executable, "-c", MUTMUT, "run", *patterns]
        done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        echo(f"mutmut failed: see the end of {LOG}", err=True)
        return 2
    return tell()


def tell() -> int:
    """Tell what survived in the last run; 1 if any of it is not argued."""
    table = tomllib.loads(SURVIVORS.read_text())
    tried: Counter[str] = Counter()
    let: Counter[str] = Counter()
    left: Counter[str] = Counter()
    for module, found in survivors():
        tried[module] += 1
        if found is not None and argued(found, table):
            let[module] += 1
        elif found is not None:
            left[module] += 1
            echo(f'\n[[argued]]  # {found.status}\nfunction = "{found.function}"\nto = {found.to!r}\nwhy = ""')
    echo(f"\n{'module':<32}{'mutants':>9}{'killed':>9}{'argued':>9}{'left':>9}")
    for module in sorted(tried):
        killed = tried[module] - let[module] - left[module]
        echo(f"{module:<32}{tried[module]:>9}{killed:>9}{let[module]:>9}{left[module]:>9}")
    return 1 if left else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument(
        "modules", nargs="*", help="modules or rooms, as consents.rules.limits or settlement; without any all rules"
    )
    parser.add_argument("--tell", action="store_true", help="only tell of the last run")
    given = parser.parse_args()
    patterns = [f"{HOUSE}{module}.*" for module in given.modules]
    os.environ.setdefault("MUTANT_UNDER_TEST", "")
    return tell() if given.tell else run(patterns)


if __name__ == "__main__":
    sys.exit(main())
