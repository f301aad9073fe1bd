"""What nobody expects of who calls the API: each of it is answered with a code, and none of it is a fault of ours."""

import asyncio
import base64
import hashlib
import json
import re
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.portability.api.answering import PullService
from gateway.portability.api.connections import ConnectionBounds
from gateway.portability.api.web import PullServer, server_context
from gateway.proving.stack.certificates import Authority, CertificateFiles
from tests.support.portability import GATEWAY, ORG
from tests.unit.portability.test_pull_service import APPROVALS, HEADERS, PAID, Rig

STRANGE: Final = (
    *(b"", b"%", b"%00", b"%ff%fe", b"%ed%b2%80", b"\xff\xfe", b"\xed\xb2\x80", "김".encode(), b"\x01", b"\t", b'";"'),
    *(b"a=b;c=d", b"..", b"%2e%2e%2f", b"9" * 40, b"-1", b"1e9", b"x" * 3000, b"20260230", b"00000000", b"99991231"),
    *("٢٠٢٦٠١٠١".encode(), b"0", b"00010101000000", b"99991231235959"),
)
"""Of no encoding, of surrogates, controls, delimiters, numbers and days that are none, and digits of another script."""

BODIES: Final = (
    *(b"", b"{", b"[]", b"null", b"\xff", b'{"a": 1, "a": 2}', b'{"\\ud800": 1}', b'{"limit": "\\ud800"}'),
    *(b'{"limit": 1e9}', b'{"limit": true}', b'{"limit": ' + b"9" * 6000 + b"}", b'{"next_page": null}', b"[" * 5000),
    b'{"from_date": 20250501, "to_date": 20270531, "org_code": "' + GATEWAY.encode() + b'"}',
)

QUERY: Final = {b"org_code": GATEWAY.encode(), b"from_date": b"20250501", b"to_date": b"20270531"}


class Times:
    """The server's clock: so many seconds ahead."""

    ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.pay(1, 2, 3)
    return rig


@pytest.fixture
async def port(rig: Rig, tmp_path: Path, times: Times) -> AsyncIterator[tuple[int, ssl.SSLContext]]:
    authority = Authority()
    served = authority.issue(tmp_path, "api", names=["127.0.0.1"])
    shown = authority.issue(tmp_path, "bank")
    rig.database.certificates.rows[_digest(shown)] = ORG
    server = PullServer(
        rig.api,
        server_context(served.certificate, served.key, served.ca),
        host="127.0.0.1",
        port=0,
        timeout_s=60,
        observer=rig.observer,
        bounds=ConnectionBounds(head_s=120.0, taken_s=120.0),
        now_s=times,
    )
    await server.start()
    context = ssl.create_default_context(cafile=str(served.ca))
    context.load_cert_chain(shown.certificate, shown.key)
    yield server.port, context
    await server.stop()


def _digest(files: CertificateFiles) -> str:
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


async def answer_to(port: int, context: ssl.SSLContext, request: bytes) -> bytes:
    """Asked as bytes, for no client would send such a thing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="127.0.0.1")
    try:
        writer.write(request)
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def request(
    path: bytes, headers: Sequence[tuple[bytes, bytes]] = (), *, method: bytes = b"GET", body: bytes = b""
) -> bytes:
    own = {n.encode(): v.encode() for n, v in HEADERS.items()}
    given = [*(own | dict(headers)).items(), (b"Host", b"127.0.0.1"), (b"Connection", b"close")]
    if body:
        given.append((b"Content-Length", b"%d" % len(body)))
    return (
        method + b" " + path + b" HTTP/1.1\r\n" + b"".join(n + b": " + v + b"\r\n" for n, v in given) + b"\r\n" + body
    )


def asked(path: str, query: dict[bytes, bytes]) -> bytes:
    return path.encode() + b"?" + b"&".join(n + b"=" + v for n, v in query.items())


def requests() -> list[bytes]:
    found = [request(asked(PAID, QUERY)), request(asked(APPROVALS, QUERY))]
    for value in STRANGE:
        names = (*QUERY, b"next_page", b"limit", b"search_timestamp", value or b"x")
        found += [request(asked(PAID, QUERY | {name: value})) for name in names]
        found += [
            request(asked("/v1/card/cards/", {}).rstrip(b"?") + value + b"/approval-domestic?" + asked("", QUERY)[1:]),
            request(b"/v1/" + value),
            request(b"/" + value + b"/apis"),
        ]
        for header in (*HEADERS, "Expect", "Content-Type", "Content-Encoding", "Transfer-Encoding"):
            found.append(request(asked(PAID, QUERY), [(header.encode(), value)]))
        found.append(request(asked(PAID, QUERY), [(b"x-user-ci", base64.b64encode(value[:60]))]))
    for body in BODIES:
        found += [request(PAID.encode(), method=m, body=body) for m in (b"POST", b"GET", b"PUT")]
    return found


async def test_whatever_a_recipient_sends_is_answered_with_a_code(port: tuple[int, ssl.SSLContext]) -> None:
    everything = requests()
    answers = [await answer_to(*port, r) for r in everything]
    statuses = [int(a.split()[1]) if a else 0 for a in answers]
    odd = [(status, r) for status, r in zip(statuses, everything, strict=True) if status == 0 or status >= 500]
    assert odd[:5] == []
    # They did reach what reads them.
    assert {200, 400, 404, 405} <= set(statuses)


async def test_a_call_that_meets_a_bug_is_answered_and_told_as_an_incident(
    port: tuple[int, ssl.SSLContext], rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(*_: object) -> None:
        raise LookupError("a secret")

    monkeypatch.setattr(PullService, "answer", answer)
    answered = await answer_to(*port, request(asked(PAID, QUERY)))
    assert b'"rsp_code": "50004"' in answered.replace(b'":"', b'": "')
    assert b"secret" not in answered
    # People are woken: each of the recipients' calls may meet it.
    assert rig.observer.counted("portability_api", "incident") == 1


async def test_a_certificate_that_ends_while_its_connection_is_open_is_no_certificate_any_more(
    port: tuple[int, ssl.SSLContext], times: Times
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port[0], ssl=port[1], server_hostname="127.0.0.1")
    call = request(asked(PAID, QUERY)).replace(b"Connection: close\r\n", b"")

    async def code() -> str:
        writer.write(call)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])  # type: ignore[index]
        return str(json.loads(await reader.readexactly(length))["rsp_code"])

    try:
        assert await code() == "00000"
        times.ahead_s = 365 * 86_400.0
        assert await code() == "40103"
    finally:
        writer.close()
