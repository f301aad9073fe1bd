"""The guides do what they say: each command, program and message in them, in order, on an empty stack."""

import shutil
from collections.abc import Iterator

import pytest

from gateway.proving.stack.ports import free_ports
from tests.support.guides import Reader

# Ports that the guides and the files in deploy name: a second reader on this machine has others.
PORTS = ("8583", "8590", "8443")

PAGES = (
    "README.md",
    "schemas/README.md",
    "schemas/RECIPIENTS.md",
    "schemas/AFFILIATES.md",
    "deploy/README.md",
    "gateway/proving/README.md",
)
"""In the order in which each goes on where the one before ends."""

MISSING = [name for name in ("jq", "curl", "openssl") if shutil.which(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"the guides use {MISSING}, which are not installed")


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    reader = Reader({port: str(own) for port, own in zip(PORTS, free_ports(len(PORTS)), strict=True)})
    yield reader
    reader.leave()


@pytest.mark.timeout(1200)
def test_a_reader_can_follow_every_guide(reader: Reader) -> None:
    for page in PAGES:
        reader.follow(page)
    reader.finish()
