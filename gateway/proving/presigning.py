"""Signing many good orders ahead of a measurement, in as many processes as there are cores, into files.

A file is a sequence of records, each four lengths (little-endian 16 bits) and then the bytes they tell: key, value,
event id, signature.
"""

import os
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Final

from cryptography.hazmat.primitives import serialization

from gateway.adapters.crypto.signature import sign_detached
from gateway.ports import Outgoing
from gateway.proving.cast import Cast
from gateway.proving.orders import VALIDITY, record_of
from gateway.proving.shops import OPEN_SHOPS
from schemas.codec import encode
from schemas.orders import ORDER_TYPE, PaymentOrder
from schemas.primitives import ConsentId, MerchantId, Money, OrderId, PartnerId

_LENGTHS: Final = struct.Struct("<4H")


@dataclass(frozen=True, slots=True)
class _Signer:
    """What a worker process signs with; sent to it through a pipe, never written down."""

    partner_id: str
    kid: str
    algorithm: str
    der: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Job:
    path: Path
    prefix: str
    count: int
    seed: int
    signers: tuple[_Signer, ...]
    consents: tuple[tuple[str, str], ...]
    issued_at: datetime


def presign(cast: Cast, count: int, directory: Path, *, name: str, seed: int) -> list[Path]:
    """Write ``count`` payments of random customers; about 100 µs each and core. Order ids begin with ``name``."""
    cores = os.cpu_count() or 1
    signers = tuple(_Signer(p.partner_id, p.kid, p.algorithm, _der(p.private_key)) for p in cast.partners)
    consents = tuple((c.terms.partner_id, c.terms.consent_id) for c in cast.customers)
    now = datetime.now(UTC)
    shares = [count // cores + (n < count % cores) for n in range(cores)]
    jobs = [
        _Job(directory / f"{name}-{n}.orders", f"{name}{n}", share, seed + n, signers, consents, now)
        for n, share in enumerate(shares)
    ]
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        return list(pool.map(_write, jobs))


def _der(key: object) -> bytes:
    der: bytes = key.private_bytes(  # type: ignore[attr-defined]  # every private key has it
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return der


def _write(job: _Job) -> Path:
    random = Random(job.seed)  # noqa: S311 - reproducible on purpose
    keys = {s.partner_id: (s, serialization.load_der_private_key(s.der, None)) for s in job.signers}
    with job.path.open("wb") as file:
        for number in range(job.count):
            partner_id, consent_id = random.choice(job.consents)
            shop = random.choice(OPEN_SHOPS)
            order = PaymentOrder(
                partner_id=PartnerId(partner_id),
                order_id=OrderId(f"{job.prefix}-{number:07d}"),
                consent_id=ConsentId(consent_id),
                merchant_id=MerchantId(shop.merchant_id),
                amount=Money.of(100 * random.randrange(shop.won_min, shop.won_max + 1), "KRW"),
                issued_at=job.issued_at,
                expires_at=job.issued_at + VALIDITY,
            )
            body = encode(order)
            signer, key = keys[partner_id]
            signature = sign_detached(body, key, kid=signer.kid, algorithm=signer.algorithm, typ=ORDER_TYPE)  # type: ignore[arg-type]
            parts = (consent_id.encode(), body, order.order_id.encode(), signature.encode())
            file.write(_LENGTHS.pack(*map(len, parts)) + b"".join(parts))
    return job.path


def read_presigned(paths: Sequence[Path]) -> Iterator[Outgoing]:
    """Read records back, as they are to be sent."""
    now = datetime.now(UTC)
    for path in paths:
        with path.open("rb") as file:
            while lengths := file.read(_LENGTHS.size):
                key, value, event_id, signature = map(file.read, _LENGTHS.unpack(lengths))
                yield record_of(key.decode(), value, event_id.decode(), now, signature.decode())
