"""Comments and docstrings name what is there: files by their paths, modules and what is in them by their names."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("gateway", "schemas", "streams")
ROLE = re.compile(r":(?:mod|class|func|meth|data|attr|exc):`[~!]?((?:gateway|schemas|streams|tests)(?:\.\w+)*)`")
FILE = re.compile(r"(?<![\w/.*-])((?:gateway|schemas|streams|tests|deploy)/[\w./-]*\w)(?![\w/.*<{-])")
# Migrations that were applied are never changed, whatever has moved since.
OLD = ("gateway/database/migrations/",)
# What these name need not be there.
PLANTED = {"tests/unit/cli/test_docs.py", "tests/unit/test_import_contracts.py", "tests/unit/test_named_places.py"}


def sources() -> Iterator[tuple[str, str]]:
    for room in (*ROOMS, "tests"):
        for path in sorted((ROOT / room).rglob("*")):
            name = path.relative_to(ROOT).as_posix()
            if path.suffix in {".py", ".sql"} and name not in PLANTED and not name.startswith(OLD):
                yield name, path.read_text(encoding="utf-8")


def is_there(name: str) -> bool:
    """True of a module, and of what a module holds: its last words stand in its text."""
    words = name.split(".")
    for depth in range(len(words), 0, -1):
        place = ROOT.joinpath(*words[:depth])
        module = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if module.is_file():
            text = module.read_text(encoding="utf-8")
            return all(re.search(rf"\b{word}\b", text) for word in words[depth:])
    return False


def missing(text: str) -> list[str]:
    """What a text names that is not there."""
    modules = [name for name in ROLE.findall(text) if not is_there(name)]
    return modules + [name for name in FILE.findall(text) if "." in name and not (ROOT / name).exists()]


def test_what_comments_and_docstrings_name_is_there() -> None:
    texts = dict(sources())
    assert len(texts) > 500
    assert {name: found for name, text in texts.items() if (found := missing(text))} == {}


def test_what_is_not_there_is_found() -> None:
    gone = "see :mod:`gateway.ports`, :class:`gateway.base.errors.NoSuchError` and gateway/adapters/clearing_seals.py"
    assert missing(gone) == ["gateway.ports", "gateway.base.errors.NoSuchError", "gateway/adapters/clearing_seals.py"]
    assert (
        missing("see :mod:`gateway.base.errors` and deploy/README.md, gateway/*/rules.py, tests/unit/test_x*.py") == []
    )
