"""The SQL of the rooms by its files' names."""

from pathlib import Path
from types import SimpleNamespace
from typing import Final

import gateway
from gateway.database import queries

_FILES: Final = [p for p in sorted(Path(gateway.__path__[0]).rglob("*.sql")) if p.parent.name != "migrations"]
SQL_FILES: Final = {path.stem: path for path in _FILES}
assert len(SQL_FILES) == len(_FILES), "two .sql files have one name: the tests of every statement would see one of them"


def load(noun: str, **names: str) -> SimpleNamespace:
    """One file's blocks, as the module beside it reads them."""
    room = ".".join(SQL_FILES[noun].parent.relative_to(Path(gateway.__path__[0]).parent).parts)
    return queries.load(f"{room}.postgres", noun, **names)
