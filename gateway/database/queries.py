"""SQL in files beside the module that runs it: ``<noun>.sql`` holds blocks that begin with ``-- name: <verb>``."""

from importlib import resources
from types import SimpleNamespace

from gateway.database.places import WORDS


def load(module: str, noun: str, **names: str) -> SimpleNamespace:
    """Read one file's blocks as attributes.

    Args:
        module: the module that asks, its ``__name__``.
        noun: the file's name, in the module's folder.
        names: of tables, for ``{placeholders}`` in the file, besides those that every file may have
            (:data:`gateway.database.places.WORDS`). Other braces stand for themselves.

    Raises:
        ValueError: text before the first block, or one name twice.
    """
    text = (resources.files(module.rpartition(".")[0]) / f"{noun}.sql").read_text(encoding="utf-8")
    head, *blocks = text.split("-- name: ")
    if head.strip():
        raise ValueError(f"{noun}.sql: text before the first block")
    queries: dict[str, str] = {}
    for block in blocks:
        name, _, sql = block.partition("\n")
        if name.strip() in queries:
            raise ValueError(f"{noun}.sql: {name.strip()} is there twice")
        for placeholder, table in {**WORDS, **names}.items():
            sql = sql.replace(f"{{{placeholder}}}", table)
        queries[name.strip()] = sql.strip()
    return SimpleNamespace(**queries)
