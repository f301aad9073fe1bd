"""TLS on a card link, with certificates made here: who may speak to whom, and what operators read when it fails."""

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gateway.network.exchange import Answered, NotSent, Unanswered, UnansweredCause
from gateway.network.iso8583.config import NetworkConfigError, load_network, network_from
from gateway.network.iso8583.pool import Iso8583Network
from gateway.proving.counterparts.config import Faults
from gateway.proving.stack.certificates import Authority, CertificateFiles
from tests.support.iso8583_host import BASE, PATIENCE_S, Host, Watcher, bench_on, config_of, fill, purchase
from tests.support.simulator_peer import Network, running

EXPIRED = datetime.now(UTC) - timedelta(hours=2)


class Papers:
    """Certificates of two authorities: the network's own, and a stranger's."""

    def __init__(self, folder: Path) -> None:
        ours, strangers = Authority(), Authority("somebody else")
        self.host = ours.issue(folder / "ours", "host", names=["127.0.0.1"])
        self.elsewhere = ours.issue(folder / "ours", "elsewhere", names=["other.example"])
        self.expired_host = ours.issue(folder / "ours", "old", names=["127.0.0.1"], valid_until=EXPIRED)
        self.gateway = ours.issue(folder / "ours", "gateway")
        self.expired_gateway = ours.issue(folder / "ours", "old-gateway", valid_until=EXPIRED)
        self.strange_host = strangers.issue(folder / "theirs", "host", names=["127.0.0.1"])
        self.strange_gateway = strangers.issue(folder / "theirs", "gateway")


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("papers"))


def host_tls(
    files: CertificateFiles, *, mutual: CertificateFiles | None = None, version: str = "1.2"
) -> dict[str, Any]:
    asked = {"client_ca": str(mutual.ca)} if mutual else {}
    return {"certificate": str(files.certificate), "key": str(files.key), "minimum_version": version, **asked}


def gateway_tls(files: CertificateFiles, *, shown: CertificateFiles | None = None, **more: str) -> dict[str, Any]:
    own = {"certificate": str(shown.certificate), "key": str(shown.key)} if shown else {}
    return {"ca": str(files.ca), **own, **more}


@asynccontextmanager
async def connected(
    simulated: Network, tls: dict[str, Any] | None, **changes: Any
) -> AsyncIterator[tuple[Iso8583Network, Watcher]]:
    settings = {**BASE, "addresses": [f"127.0.0.1:{simulated.host.port}"], **changes}
    if tls is not None:
        settings["tls"] = tls
    watcher = Watcher()
    network = Iso8583Network(network_from(settings, source="test"), on_unmatched=lambda _: None, observer=watcher)
    await network.start()
    try:
        yield network, watcher
    finally:
        await network.stop(drain_seconds=0)


async def pay(network: Iso8583Network, stan: int) -> object:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[object] = loop.create_future()
    async with asyncio.timeout(PATIENCE_S):
        await network.wait_open()
        await network.reserve(1)
        network.submit(purchase(stan), send_before=loop.time() + PATIENCE_S, done=ended.set_result)
        return await ended


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("mutual", [False, True], ids=["one-sided", "mutual"])
async def test_payments_go_over_tls(papers: Papers, tmp_path: Path, version: str, *, mutual: bool) -> None:
    asked = papers.gateway if mutual else None
    async with (
        running(tmp_path, tls=host_tls(papers.host, mutual=asked, version=version)) as simulated,
        connected(simulated, gateway_tls(papers.gateway, shown=asked, minimum_version=version)) as (network, _),
    ):
        result = await pay(network, 1)
        assert isinstance(result, Answered)
        assert result.response_code == "00"


# What is wrong → what operators read.
FAILURES: dict[str, tuple[Callable[[Papers], dict[str, Any] | None], Callable[[Papers], dict[str, Any]], str]] = {
    "a stranger's host": (
        lambda p: host_tls(p.strange_host),
        lambda p: gateway_tls(p.gateway),
        "TLS: the host's certificate is signed by nobody that tls.ca knows",
    ),
    "an expired host": (
        lambda p: host_tls(p.expired_host),
        lambda p: gateway_tls(p.gateway),
        "TLS: the host's certificate has expired",
    ),
    "a host of another name": (
        lambda p: host_tls(p.elsewhere),
        lambda p: gateway_tls(p.gateway),
        "TLS: the host's certificate is for another name",
    ),
    "a host of another name than the file's": (
        lambda p: host_tls(p.host),
        lambda p: gateway_tls(p.gateway, server_name="switch.example"),
        "TLS: the host's certificate is for another name",
    ),
    "no client certificate": (
        lambda p: host_tls(p.host, mutual=p.gateway, version="1.3"),
        lambda p: gateway_tls(p.gateway),
        # The simulator's event loop resets the connection and keeps the alert to itself: see below for hosts that tell.
        "connection lost: Connection reset by peer before any answer came over TLS: the host may ask for",
    ),
    "a plaintext host": (
        lambda _: None,
        lambda p: gateway_tls(p.gateway),
        "TLS: the handshake was not answered in time: the host may not speak TLS",
    ),
    "no such file": (
        lambda p: host_tls(p.host),
        lambda p: gateway_tls(p.gateway) | {"ca": "/nowhere/ca.pem"},
        "tls.ca cannot be used (No such file or directory)",
    ),
    "a key of another certificate": (
        lambda p: host_tls(p.host),
        lambda p: gateway_tls(p.gateway, shown=p.gateway) | {"key": str(p.host.key)},
        "tls.certificate or tls.key cannot be used (KEY_VALUES_MISMATCH)",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
async def test_a_handshake_that_fails_is_told_clearly_and_tried_again(
    papers: Papers, tmp_path: Path, case: str
) -> None:
    hosts, gateways, told = FAILURES[case]
    settings = hosts(papers)
    config: dict[str, Any] = {} if settings is None else {"tls": settings}
    async with (
        running(tmp_path, **config) as simulated,
        connected(simulated, gateways(papers), connect_timeout_s=PATIENCE_S if config else 0.2) as (network, watcher),
    ):
        await until_told(watcher, told)
        assert not network.is_open


async def until_told(watcher: Watcher, told: str) -> None:
    """Wait until a link has gone down twice for this reason."""
    async with asyncio.timeout(PATIENCE_S):
        while sum(e[:2] == ("link", "down") and e[2].startswith(told) for e in watcher.events) < 2:
            await watcher.until("link", "down", count=sum(e[:2] == ("link", "down") for e in watcher.events) + 1)


@contextmanager
def telling_host(context: ssl.SSLContext) -> Iterator[int]:
    """A host that shakes hands, and where it refuses sends its alert and waits for the peer to go: OpenSSL's own way.

    Yields the port.
    """
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            with plain, suppress(OSError):
                try:
                    context.wrap_socket(plain.dup(), server_side=True).recv(1)
                except ssl.SSLError:
                    plain.shutdown(socket.SHUT_WR)
                    while plain.recv(4096):
                        pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(PATIENCE_S)


# Highest version, client certificate shown → what the host's alert is told as.
ALERTS = {
    "none, 1.3": ("1.3", None, "TLS: the host asks for a client certificate and tls.certificate is not set"),
    "none, 1.2": ("1.2", None, "TLS: the host refused the handshake: it may ask for a client certificate"),
    "a stranger's, 1.3": ("1.3", "strange_gateway", "TLS: the host does not know who signed the gateway's certificate"),
    "a stranger's, 1.2": ("1.2", "strange_gateway", "TLS: the host does not know who signed the gateway's certificate"),
    "expired": ("1.3", "expired_gateway", "TLS: the host finds the gateway's certificate expired"),
}


@pytest.mark.parametrize("case", ALERTS)
async def test_why_a_host_refuses_the_gateways_certificate_is_told(papers: Papers, case: str) -> None:
    highest, shown, told = ALERTS[case]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(papers.host.certificate, papers.host.key)
    context.load_verify_locations(cafile=papers.gateway.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_3 if highest == "1.3" else ssl.TLSVersion.TLSv1_2
    with telling_host(context) as port:
        tls = gateway_tls(papers.gateway, shown=getattr(papers, shown) if shown else None)
        settings = {**BASE, "addresses": [f"127.0.0.1:{port}"], "tls": tls}
        watcher = Watcher()
        network = Iso8583Network(network_from(settings, source="test"), on_unmatched=lambda _: None, observer=watcher)
        await network.start()
        try:
            await until_told(watcher, told)
        finally:
            await network.stop(drain_seconds=0)


async def test_a_host_of_an_older_tls_is_told_so(papers: Papers) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(papers.host.certificate, papers.host.key)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with telling_host(context) as port:
        tls = gateway_tls(papers.gateway, minimum_version="1.3")
        settings = {**BASE, "addresses": [f"127.0.0.1:{port}"], "tls": tls}
        watcher = Watcher()
        network = Iso8583Network(network_from(settings, source="test"), on_unmatched=lambda _: None, observer=watcher)
        await network.start()
        try:
            await until_told(watcher, "TLS: the host does not take the versions of TLS that are offered")
        finally:
            await network.stop(drain_seconds=0)


async def test_retries_of_a_refused_handshake_back_off(papers: Papers, tmp_path: Path) -> None:
    ceilings: list[float] = []

    class Noted(float):
        """The jitter that the pause is multiplied by: none, so that the test need not wait."""

        def __rmul__(self, ceiling: float) -> float:
            ceilings.append(ceiling)
            return 0.0

    async with running(tmp_path, tls=host_tls(papers.strange_host)) as simulated:
        settings = {**BASE, "addresses": [f"127.0.0.1:{simulated.host.port}"], "tls": gateway_tls(papers.gateway)}
        settings |= {"backoff_min_s": 0.5, "backoff_max_s": 4}
        watcher = Watcher()
        network = Iso8583Network(
            network_from(settings, source="test"), on_unmatched=lambda _: None, observer=watcher, jitter=Noted
        )
        await network.start()
        await watcher.until("link", "down", count=6)
        await network.stop(drain_seconds=0)
        assert ceilings[:5] == [1.0, 2.0, 4, 4, 4]


async def test_a_plaintext_gateway_gets_nothing_from_a_tls_host(papers: Papers, tmp_path: Path) -> None:
    async with (
        running(tmp_path, tls=host_tls(papers.host)) as simulated,
        connected(simulated, None, answer_timeout_s=0.5) as (network, watcher),
    ):
        await watcher.until("link", "down")
        assert not network.is_open


async def test_a_link_that_falls_within_tls_leaves_what_was_sent_unknown(papers: Papers, tmp_path: Path) -> None:
    async with (
        running(tmp_path, tls=host_tls(papers.host), faults={"close_before_apply": 1.0}) as simulated,
        connected(simulated, gateway_tls(papers.gateway)) as (network, _),
    ):
        result = await pay(network, 1)
        assert isinstance(result, Unanswered)
        assert result.cause is UnansweredCause.LINK_LOST
        simulated.host.set_faults(Faults())
        assert isinstance(await pay(network, 2), Answered)


async def test_a_stuck_host_behind_tls_is_dropped_and_what_waited_was_not_sent(papers: Papers) -> None:
    """A host that accepts, signs on and then reads no more."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(papers.host.certificate, papers.host.key)
    host = Host(config_of())
    async with bench_on(host, ssl=context, tls=gateway_tls(papers.gateway), window=100_000, write_deadline_s=0.3) as b:
        await b.open()
        host.is_reading.clear()
        host.peers[0].writer.transport.pause_reading()
        waiting = await fill(b, 8000)
        await b.watcher.until("link", "down", "write deadline passed")
        async with asyncio.timeout(PATIENCE_S):
            results = await asyncio.gather(*waiting)
        unknown = results.count(Unanswered(UnansweredCause.LINK_LOST))
        assert 0 < unknown < len(results)
        assert all(isinstance(result, NotSent) for result in results[unknown:])


def test_tls_links_behave_the_same_on_uvloop(papers: Papers, tmp_path: Path) -> None:
    async def all_of_it() -> None:
        await test_payments_go_over_tls(papers, tmp_path / "a", "1.3", mutual=True)
        await test_a_link_that_falls_within_tls_leaves_what_was_sent_unknown(papers, tmp_path / "b")
        await test_a_stuck_host_behind_tls_is_dropped_and_what_waited_was_not_sent(papers)

    for name in "ab":
        (tmp_path / name).mkdir()
    uvloop.run(all_of_it())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"addresses": ["10.1.2.3:8583"]}, "an address that is not loopback needs [tls]"),
        ({"addresses": ["127.0.0.1:1", "switch.example:8583"]}, "an address that is not loopback needs [tls]"),
        ({"tls": {"ca": "ca.pem"}, "plaintext": True}, "plaintext = true and [tls] exclude each other"),
        ({"tls": {}}, "tls.ca: field is missing"),
        ({"tls": {"ca": "ca.pem", "verify": False}}, "tls.verify: unknown field"),
        ({"tls": {"ca": "ca.pem", "certificate": "a.pem"}}, "tls: certificate and key go together"),
        ({"tls": {"ca": "ca.pem", "minimum_version": "1.1"}}, "tls.minimum_version: must be '1.2' or '1.3'"),
    ],
)
def test_what_a_networks_file_must_say_of_its_line(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(NetworkConfigError) as caught:
        network_from(BASE | change, source="net.toml")
    assert problem in str(caught.value)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"])
def test_loopback_needs_no_tls(address: str) -> None:
    assert network_from(BASE | {"addresses": [address]}, source="x").tls is None


def test_a_line_that_is_protected_otherwise_is_said_to_be_so() -> None:
    assert network_from(BASE | {"addresses": ["10.1.2.3:1"], "plaintext": True}, source="x").plaintext


def test_paths_are_those_beside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "net.toml"
    path.write_text(
        'network_id = "b"\naddresses = ["switch.example:1"]\ndialect = "iso87-ascii"\nframe = "binary2"\n'
        'acquirer_id = "1"\ntime_zone = "Asia/Seoul"\ncurrencies = ["KRW"]\n[terminals]\nprefix = "G"\ncount = 1\n'
        '[tls]\nca = "keys/ca.pem"\ncertificate = "/etc/gw.pem"\nkey = "gw.key"\n'
    )
    tls = load_network(path).tls
    assert tls is not None
    assert (tls.ca, tls.certificate, tls.key) == (tmp_path / "keys/ca.pem", Path("/etc/gw.pem"), tmp_path / "gw.key")
