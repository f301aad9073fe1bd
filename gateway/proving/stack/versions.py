"""Server versions, read from `deploy/versions.toml`."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gateway.proving.stack.errors import LocalStackError

DEPLOY_DIR = Path(__file__).resolve().parents[3] / "deploy"


@dataclass(frozen=True, slots=True)
class Versions:
    """What runs: Apache Kafka (and the Scala and Log4j it is built with) and PostgreSQL."""

    kafka: str
    scala: str
    log4j: str
    postgres: str


@cache
def versions() -> Versions:
    """Read the pinned versions.

    Raises:
        LocalStackError: the file is missing, as in an installation without the source tree.
    """
    path = DEPLOY_DIR / "versions.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LocalStackError(
            f"The list of server versions {path} is missing.",
            "The local stack runs from a source checkout: clone the repository and run `make install`.",
        ) from error
    return Versions(
        kafka=table["kafka"]["version"],
        scala=table["kafka"]["scala"],
        log4j=table["kafka"]["log4j"],
        postgres=table["postgres"]["version"],
    )
