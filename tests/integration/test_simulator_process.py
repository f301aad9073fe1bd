"""The simulated network as the process that a demo starts: killed, stopped, and told wrong things."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from gateway.network.iso8583.codec import Message
from gateway.network.iso8583.framing import FrameHeader
from gateway.proving.counterparts.books import Books
from tests.support.cli import mypay
from tests.support.simulator_peer import Peer, purchase, reversal, until

COMMAND = [sys.executable, "-c", "from gateway.cli import main; main()", "simulate", "network"]


class Process:
    def __init__(self, process: asyncio.subprocess.Process, ready: dict[str, Any], line: str) -> None:
        self.process = process
        self.ready = ready
        self.line = line

    async def peer(self) -> Peer:
        peer = Peer("iso87-ascii", FrameHeader.BINARY2)
        await peer.connect(self.ready["port"])
        assert await peer.sign_on() == "00"
        return peer

    async def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        async with asyncio.timeout(60):
            return await self.process.wait()


@asynccontextmanager
async def network(directory: Path, *options: str) -> AsyncIterator[Process]:
    ready = directory / "ready.json"
    ready.unlink(missing_ok=True)
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "--ledger", directory / "ledger.db", "--ready-file", ready, *options, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            line = (await process.stdout.readline()).decode()
        await until(ready.exists)
        yield Process(process, json.loads(ready.read_text()), line)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def exchange_until_lost(
    peer: Peer, messages: list[Message], answered: dict[int, Message], kill: Callable[[], None]
) -> None:
    # Some at a time: else all might be answered before the first answer is read, on a busy machine.
    waiting = iter(messages)
    peer.send(*islice(waiting, 100))
    try:
        while True:
            answer = await peer.receive()
            answered[int(answer[11])] = answer
            if len(answered) == 200:
                kill()
            peer.send(*islice(waiting, 1))
    except ConnectionError:
        return


async def test_no_answered_approval_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    sent = {stan: purchase(stan) for stan in range(1, 3001)}
    undone = [reversal(sent[stan]) for stan in range(1, 101)]
    answered: dict[int, Message] = {}
    async with network(tmp_path) as running:
        one, two = await running.peer(), await running.peer()
        for message in undone[:50]:
            assert (await one.ask(sent[int(message[90][4:10])]))[39] == "00"
            assert (await one.ask(message))[39] == "00"
        clients = [
            asyncio.create_task(
                exchange_until_lost(peer, [sent[stan] for stan in stans], answered, running.process.kill)
            )
            for peer, stans in ((one, range(101, 3001, 2)), (two, range(102, 3001, 2)))
        ]
        await asyncio.gather(*clients)
    assert 200 <= len(answered) < 2900
    with Books(tmp_path / "ledger.db") as books:
        booked = {entry.stan: entry for entry in books.entries()}
    for stan, answer in answered.items():
        assert (booked[stan].state, booked[stan].approval_code) == ("approved", answer[38])

    async with network(tmp_path) as running:
        peer = await running.peer()
        for message in undone[:50]:
            assert (await peer.ask(Message("0421", message.fields)))[39] == "00"
        peer.send(*sent.values())
        again = [await peer.receive() for _ in sent]
        await running.end(signal.SIGTERM)
    assert all(answered[int(answer[11])] == answer for answer in again if int(answer[11]) in answered)
    with Books(tmp_path / "ledger.db") as books:
        totals, by_rrn = books.totals(), books.by_rrn()
    assert totals.by_state == {"approved": 2950, "reversed": 50}
    assert totals.doubled_rrns == 0
    # Every one that the first process had booked was seen twice, and booked once.
    assert totals.duplicates_seen == len(booked)
    assert {entry.stan for entries in by_rrn.values() for entry in entries} == sent.keys()


async def test_sigterm_closes_the_cycle_and_the_books(tmp_path: Path) -> None:
    clearing = tmp_path / "clearing"
    options = ["--clearing-dir", str(clearing), "--close-on-stop", "--network-id", "blue", "--synchronous", "full"]
    async with network(tmp_path, *options) as running:
        assert running.line.startswith(f"network blue listens on 127.0.0.1:{running.ready['port']} ")
        assert running.ready["control_port"] is None
        assert running.ready["pid"] == running.process.pid
        peer = await running.peer()
        assert (await peer.ask(purchase(1)))[39] == "00"
        assert await running.end(signal.SIGTERM) == 0
        assert await peer.closed()
    (file,) = clearing.iterdir()
    assert file.read_text().splitlines()[-1] == "T,1,1000"
    # The log was merged into the file: nothing is left beside it.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clearing", "ledger.db", "ready.json"]  # noqa: ASYNC240  # nothing else runs


async def test_a_timer_closes_cycles(tmp_path: Path) -> None:
    clearing = tmp_path / "clearing"
    async with network(tmp_path, "--clearing-dir", str(clearing), "--cycle-seconds", "0.1") as running:
        await until(lambda: len(list(clearing.glob("*.csv"))) >= 2)
        assert await running.end(signal.SIGTERM) == 0


async def test_a_configuration_file_and_what_overrides_it(tmp_path: Path) -> None:
    config = tmp_path / "network.toml"
    config.write_text(
        'network_id = "red"\n[declines]\namount_suffixes = { "051" = "51" }\n[policy]\non_duplicate = "refuse_94"\n'
    )
    options = ["--config", str(config), "--decline", "052=61", "--control-port", "0"]
    async with network(tmp_path, *options) as running:
        assert running.ready["network_id"] == "red"
        assert running.ready["control_port"] > 0
        peer = await running.peer()
        codes = [(await peer.ask(purchase(stan, amount)))[39] for stan, amount in ((1, 2051), (2, 2052), (2, 2052))]
        assert codes == ["51", "61", "94"]


def test_a_port_that_is_taken_ends_it_with_a_reason(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [*COMMAND, "--ledger", str(tmp_path / "ledger.db"), "--port", port]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "address already in use" in ended.stderr.lower()
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("toml", "options", "named"),
    [
        ("sedd = 1", [], "sedd"),
        ("[faults]\nlate = 2", [], "faults.late"),
        ("network_id = ", [], "network.toml"),
        ("", ["--decline", "051"], "051"),
        ("", ["--decline-rate", "1.5"], "declines.random_rate"),
        ('pan_hash_key = "short secret"', [], "pan_hash_key"),
    ],
)
def test_a_wrong_setting_is_named(toml: str, options: list[str], named: str, tmp_path: Path) -> None:
    config = tmp_path / "network.toml"
    config.write_text(toml)
    ran = mypay("simulate", "network", "--config", config, "--ledger", tmp_path / "ledger.db", *options).expect(2)
    assert named in ran.err
    assert "short secret" not in ran.err


def test_without_a_ledger_it_does_not_start() -> None:
    assert "ledger" in mypay("simulate", "network").expect(2).err
