"""Regenerate `deploy/kafka-jars.sha256`: `python -m gateway.proving.stack.pin`.

Needed after a change of `deploy/versions.toml`.
"""

import hashlib
import tempfile
from dataclasses import replace
from pathlib import Path

from jgo.parse import Coordinate

from gateway.proving.stack.jars import JAR_LIST, maven_context
from gateway.proving.stack.versions import versions


def main() -> None:
    """Resolve Kafka with its runtime dependencies, download all of it and write the list of checksums."""
    wanted = versions()
    kafka = Coordinate.parse(f"org.apache.kafka:kafka_{wanted.scala}:{wanted.kafka}")
    with tempfile.TemporaryDirectory() as scratch:
        repository = Path(scratch)
        context = maven_context(repository)
        inputs, transitive = context.resolver.resolve([context.create_dependency(replace(kafka, scope="compile"))])
        artifacts = [
            dependency.artifact for dependency in (*inputs, *transitive) if dependency.scope in {"compile", "runtime"}
        ]
        # Resolved apart: jgo would let Log4j's bill of materials choose the versions of Kafka's parts.
        backend = context.project("org.apache.logging.log4j", "log4j-slf4j-impl").at_version(wanted.log4j)
        files = sorted({artifact.resolve() for artifact in (*artifacts, backend.artifact())})
        lines = [
            f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(repository).as_posix()}\n"
            for file in files
        ]
    JAR_LIST.write_text("".join(lines), encoding="ascii")


if __name__ == "__main__":
    main()
