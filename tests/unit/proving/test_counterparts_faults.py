"""Everything that the simulated network can get wrong, seen from the other end of the link and in its books."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.network.iso8583.codec import Iso8583Error, decode_arriving
from gateway.network.iso8583.layout import DialectName
from gateway.proving.counterparts.config import Faults
from tests.support.simulator_peer import Network, Peer, inquiry, management, purchase, reversal, running, until

Check = Callable[[Network, Peer], Awaitable[None]]


async def gets_nothing(net: Network, peer: Peer) -> None:
    """What is asked later is answered first, so the message before it was not answered."""
    net.host.set_faults(Faults())
    assert (await peer.ask(purchase(2)))[11] == "000002"


async def is_closed(_net: Network, peer: Peer) -> None:
    assert await peer.closed()


async def gets_it_twice(_net: Network, peer: Peer) -> None:
    first, second = await peer.receive(), await peer.receive()
    assert first == second


async def gets_it_late(net: Network, peer: Peer) -> None:
    net.host.set_faults(Faults())
    assert (await peer.ask(purchase(2)))[11] == "000002"
    assert (await peer.receive())[11] == "000001"


async def gets_garbage(_net: Network, peer: Peer) -> None:
    with pytest.raises(Iso8583Error):
        await peer.receive()


async def gets_another_amount(_net: Network, peer: Peer) -> None:
    assert (await peer.receive())[4] == "000000001001"


async def gets_another_rrn(_net: Network, peer: Peer) -> None:
    answer = await peer.receive()
    assert len(answer[37]) == 12
    assert answer[37] != purchase(1)[37]


async def gets_a_code_of_no_meaning(_net: Network, peer: Peer) -> None:
    assert (await peer.receive())[39] in {"06", "20", "76", "78", "98", "N7"}


async def gets_noise_beside_its_answer(_net: Network, peer: Peer) -> None:
    answer = decode_arriving(await peer.body(), peer.dialect)
    assert (answer[39], answer[4], answer[37]) == ("00", "000000001000", purchase(1)[37])
    assert answer.others.keys() == {12, 63}


FAULTS: dict[str, tuple[dict[str, Any], Check, str | None]] = {
    "drop_before_apply": ({"drop_before_apply": 1}, gets_nothing, None),
    "drop_after_apply": ({"drop_after_apply": 1}, gets_nothing, "approved"),
    "close_before_apply": ({"close_before_apply": 1}, is_closed, None),
    "close_after_apply": ({"close_after_apply": 1}, is_closed, "approved"),
    "late": ({"late": 1, "late_ms": 300}, gets_it_late, "approved"),
    "duplicate_answer": ({"duplicate_answer": 1}, gets_it_twice, "approved"),
    "garbled": ({"garbled": 1}, gets_garbage, "approved"),
    "wrong_amount": ({"wrong_amount": 1}, gets_another_amount, "approved"),
    "wrong_rrn": ({"wrong_rrn": 1}, gets_another_rrn, "approved"),
    "unlisted": ({"unlisted": 1}, gets_a_code_of_no_meaning, "approved"),
    "noisy": ({"noisy": 1}, gets_noise_beside_its_answer, "approved"),
    "silence": ({"silence": "apply"}, gets_nothing, "approved"),
    "silence, nothing booked": ({"silence": "ignore"}, gets_nothing, None),
}


@pytest.mark.parametrize("dialect", ["iso87-ascii", "iso87-bcd"])
@pytest.mark.parametrize("name", FAULTS)
async def test_fault(name: str, dialect: DialectName, tmp_path: Path) -> None:
    faults, check, state = FAULTS[name]
    async with running(tmp_path, faults=faults, dialect=dialect) as net:
        peer = await net.peer()
        peer.send(purchase(1))
        await net.until_counted(f"fault_{name.partition(',')[0]}")
        await check(net, peer)
        assert (await net.book()).get(1) == state


@pytest.mark.parametrize("seed", range(4))
async def test_garbage_is_of_two_kinds_and_neither_is_read(seed: int, tmp_path: Path) -> None:
    async with running(tmp_path, faults={"garbled": 1}, seed=seed) as net:
        peer = await net.peer()
        for stan in range(1, 9):
            peer.send(purchase(stan))
            with pytest.raises(Iso8583Error):
                await peer.receive()


async def test_an_answer_may_come_on_another_link(tmp_path: Path) -> None:
    async with running(tmp_path, faults={"other_link": 1}) as net:
        peer, other = await net.peer(), await net.peer()
        peer.send(purchase(1))
        assert (await other.receive())[11] == "000001"


async def test_a_fault_concerns_its_message_classes_alone(tmp_path: Path) -> None:
    async with running(tmp_path, faults={"drop_after_apply": 1, "classes": ["financial"]}) as net:
        peer = await net.peer()
        peer.send(purchase(1))
        assert (await peer.ask(inquiry(purchase(1))))[39] == "00"
        assert (await peer.ask(reversal(purchase(1))))[39] == "00"
        assert await net.book() == {1: "reversed"}


async def test_a_silence_with_a_duration_ends_by_itself(tmp_path: Path) -> None:
    async with running(tmp_path, faults={"silence": "ignore", "silence_seconds": 0.05}) as net:
        peer = await net.peer()
        peer.send(purchase(1))
        await until(lambda: net.host.faults.silence == "off")
        assert (await peer.ask(purchase(2)))[11] == "000002"


async def test_sign_on_can_be_refused_and_ignored(tmp_path: Path) -> None:
    async with running(tmp_path, faults={"refuse_sign_on": True}) as net:
        peer = await net.peer(sign_on=False)
        assert await peer.sign_on() == "91"
        assert (await peer.ask(purchase(1)))[39] == "91"
        net.host.set_faults(Faults(ignore_management=True))
        peer.send(management("301"))
        assert (await peer.ask(purchase(1)))[39] == "91"  # and no 0810 before it


async def test_the_same_seed_gives_the_same_faults(tmp_path: Path) -> None:
    async def dropped(name: str, seed: int) -> set[int]:
        directory = tmp_path / name
        async with running(directory, faults={"drop_before_apply": 0.3}, seed=seed) as net:
            peer = await net.peer()
            peer.send(*[purchase(stan) for stan in range(1, 101)])
            await net.until_counted("fault_drop_before_apply", 10)
            return set(range(1, 101)) - (await net.book()).keys()

    first = await dropped("one", 5)
    assert 10 <= len(first) <= 50
    assert await dropped("two", 5) == first
    assert await dropped("three", 6) != first


async def test_a_host_may_stamp_its_own_time_and_leave_the_terminal_out(tmp_path: Path) -> None:
    async with running(tmp_path, policy={"own_time": True, "omits_terminal": True}) as net:
        peer = await net.peer(sign_on=False)
        assert (await peer.ask(management("001")))[7] != management("001")[7]
        peer.send(purchase(1))
        answer = decode_arriving(await peer.body(), peer.dialect)
        assert (answer[39], answer[37], answer.get(41)) == ("00", purchase(1)[37], None)
        assert answer[7] != purchase(1)[7]
