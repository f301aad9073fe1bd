"""A second checkout on one machine: the usual ports are taken, and what is told leads out."""

import json
import os
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.network.iso8583.config import load_networks
from tests.support.cli import mypay

NETWORKS = Path(__file__).parents[3] / "deploy" / "networks"
PROGRAM = [sys.executable, "-c", "from gateway.cli import main; main()"]


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith("MYPAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MYPAY_NETWORKS_DIR", str(NETWORKS))


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_taken_port_is_told_with_the_way_out(taken: int) -> None:
    network = ("simulate", "network", "--network-id", "bcard", "--ledger", "books.sqlite", "--port", taken)
    for command, folder in ((network, "--networks-dir"), (("simulate", "idp", "--port", taken), "--issuers-dir")):
        told = mypay(*command).expect(1).err
        assert "address already in use" in told.lower()
        assert f"`--port 0 {folder} var/" in told
        assert json.loads(mypay(*command, "--json").expect(2).err)["error"], "an option that it has not"


def test_a_free_port_is_written_into_the_gateways_file(tmp_path: Path) -> None:
    ready, folder = tmp_path / "ready.json", tmp_path / "networks"
    options = ["--port", "0", "--ledger", "books.sqlite", "--ready-file", str(ready), "--networks-dir", str(folder)]
    with subprocess.Popen(
        [*PROGRAM, "simulate", "network", "--network-id", "bcard", *options], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert "listens on" in process.stdout.readline()
            port = json.loads(ready.read_text())["port"]
        finally:
            process.send_signal(signal.SIGTERM)
    [address] = load_networks(folder)["bcard"].addresses
    assert (address.host, address.port) == ("127.0.0.1", port)
    before, after = (tomllib.loads((at / "bcard.toml").read_text()) for at in (NETWORKS, folder))
    assert before | {"addresses": after["addresses"]} == after


def test_the_file_that_is_read_is_not_written() -> None:
    command = ("simulate", "network", "--network-id", "bcard", "--ledger", "b.sqlite", "--networks-dir", NETWORKS)
    assert "give another folder" in mypay(*command).expect(2).err


def test_what_is_missing_is_named_as_an_option() -> None:
    assert "--ledger" in mypay("simulate", "network", "--network-id", "bcard").expect(2).err
