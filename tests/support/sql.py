"""The SQL of the rooms by its files' names."""

from pathlib import Path
from types import SimpleNamespace
from typing import Final

import gateway
from gateway.database import queries

SQL_FILES: Final = {
    path.stem: path for path in sorted(Path(gateway.__path__[0]).rglob("*.sql")) if path.parent.name != "migrations"
}


def load(noun: str, **names: str) -> SimpleNamespace:
    """One file's blocks, as the module beside it reads them."""
    room = ".".join(SQL_FILES[noun].parent.relative_to(Path(gateway.__path__[0]).parent).parts)
    return queries.load(f"{room}.postgres", noun, **names)
