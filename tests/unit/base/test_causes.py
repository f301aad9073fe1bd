"""Why a file or a connection cannot be used is told in the system's or a parser's words, and nothing that it holds."""

import asyncio
import ssl
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.base.causes import cause_of


def _toml(text: bytes) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        file = folder / "x.toml"
        file.write_bytes(text)
        return tomllib.loads(file.read_text(encoding="utf-8"))

    return read


def _authority(text: bytes) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        file = folder / "ca.pem"
        file.write_bytes(text)
        return ssl.create_default_context(cafile=file)

    return read


def _raises(error: Exception) -> Callable[[Path], object]:
    def read(_: Path) -> object:
        raise error

    return read


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda folder: (folder / "none").read_text(), "No such file or directory"),
        (lambda folder: folder.read_text(), "Is a directory"),
        (_toml(b"a = \n4111111111111111"), "it is not TOML: Invalid value (at line 1, column 5)"),
        (_toml(b"\xff4111111111111111"), "it is not UTF-8"),
        (_authority(b"4111111111111111"), "NO_CERTIFICATE_OR_CRL_FOUND"),
        (_raises(ConnectionResetError()), "Connection reset by peer"),
        (_raises(ConnectionResetError("4111111111111111")), "Connection reset by peer"),
        (_raises(KeyError("4111111111111111")), "KeyError"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_cause_has_words(tmp_path: Path, act: Callable[[Path], object], said: str) -> None:
    with pytest.raises(Exception) as failed:  # noqa: PT011 - of each kind
        act(tmp_path)
    assert cause_of(failed.value) == said


async def test_a_host_that_is_away_is_told_without_its_address() -> None:
    server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    with pytest.raises(OSError) as refused:  # noqa: PT011 - its number is told
        await asyncio.open_connection("127.0.0.1", port)
    assert cause_of(refused.value) == "Connection refused"
