"""Signing many good orders ahead of a measurement, in as many processes as there are cores, into files.

Every second order carries a customer's proof, of either group's provider; the others are worth too little to need one.

A file is a sequence of records, each four lengths (little-endian 16 bits) and then the bytes they tell: key, value,
event id, signature.
"""

import os
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Final

from cryptography.hazmat.primitives import serialization

from gateway.client import Signer, record_of
from gateway.identity.rules import link_of
from gateway.messaging.records import Outgoing
from gateway.proving.counterparts.idp.provider import Group
from gateway.proving.traffic.cast import Cast
from gateway.proving.traffic.identities import GROUPS, PROOF_FREE, Identities
from gateway.proving.traffic.orders import VALIDITY
from gateway.proving.traffic.shops import OPEN_SHOPS
from schemas.codec import encode
from schemas.orders import ORDER_TYPE, PaymentOrder
from schemas.primitives import ConsentId, MerchantId, Money, OrderId, PartnerId

_FREE_HUNDREDS: Final = PROOF_FREE["KRW"] // 100
_CHEAP_SHOPS: Final = tuple(s for s in OPEN_SHOPS if s.won_min <= _FREE_HUNDREDS)
_LENGTHS: Final = struct.Struct("<4H")


@dataclass(frozen=True, slots=True)
class _Key:
    """What a worker process signs with; sent to it through a pipe, never written down."""

    partner_id: str
    kid: str
    der: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Job:
    path: Path
    prefix: str
    count: int
    seed: int
    keys: tuple[_Key, ...]
    provers: tuple[tuple[Group, bytes], ...] = field(repr=False)
    consents: tuple[tuple[str, str, str], ...]
    issued_at: datetime


def presign(
    cast: Cast, count: int, directory: Path, *, name: str, seed: int, processes: int | None = None
) -> list[Path]:
    """Write ``count`` payments of random customers, in one process a core or as told. Order ids begin with ``name``.

    About 100 µs each and core, and 60 µs more for the half that has a proof.
    """
    cores = processes or os.cpu_count() or 1
    keys = tuple(_Key(p.partner_id, p.kid, _der(p.private_key)) for p in cast.partners)
    provers = tuple((group, _der(key)) for group, key in cast.identities.keys.items())
    consents = tuple((c.terms.partner_id, c.terms.consent_id, c.terms.customer_id) for c in cast.customers)
    now = datetime.now(UTC)
    shares = [count // cores + (n < count % cores) for n in range(cores)]
    jobs = [
        _Job(directory / f"{name}-{n}.orders", f"{name}{n}", share, seed + n, keys, provers, consents, now)
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
    signers = {k.partner_id: Signer(serialization.load_der_private_key(k.der, None), k.kid) for k in job.keys}  # type: ignore[arg-type]
    identities = Identities({g: serialization.load_der_private_key(der, None) for g, der in job.provers})  # type: ignore[misc]
    unfinished = job.path.with_suffix(".part")
    with unfinished.open("wb") as file:
        for number in range(job.count):
            partner_id, consent_id, customer_id = random.choice(job.consents)
            proven = number % 2 == 0
            shop = random.choice(OPEN_SHOPS if proven else _CHEAP_SHOPS)
            hundreds_max = shop.won_max if proven else min(shop.won_max, _FREE_HUNDREDS)
            order = PaymentOrder(
                partner_id=PartnerId(partner_id),
                order_id=OrderId(f"{job.prefix}-{number:07d}"),
                consent_id=ConsentId(consent_id),
                merchant_id=MerchantId(shop.merchant_id),
                amount=Money.of(100 * random.randrange(shop.won_min, hundreds_max + 1), "KRW"),
                issued_at=job.issued_at,
                expires_at=job.issued_at + VALIDITY,
            )
            if proven:
                group = GROUPS[number // 2 % len(GROUPS)]
                proof = identities.prove(group, customer_id, link_of(order), jti=order.order_id, at=job.issued_at)
                order = order.model_copy(update={"authentication": proof})
            body = encode(order)
            signature = signers[partner_id].sign(body, ORDER_TYPE)
            parts = (consent_id.encode(), body, order.order_id.encode(), signature.encode())
            file.write(_LENGTHS.pack(*map(len, parts)) + b"".join(parts))
    # Whoever waits for it finds the whole of it.
    return unfinished.rename(job.path)


class Presigned:
    """Orders to send, in turn: of files that are there, and then of those that somebody still signs.

    Args:
        paths: files that are there.
        more: a folder and the beginning of names of files that come while these are sent. None: no more come.
    """

    def __init__(self, paths: Sequence[Path], more: tuple[Path, str] | None = None) -> None:
        self._more = more
        self._read = set(paths)
        self._orders = read_presigned(paths)

    @property
    def ends(self) -> bool:
        """False if more may come once there are none."""
        return self._more is None

    def take(self, count: int) -> list[Outgoing]:
        """Up to ``count`` orders; fewer where there are no more now."""
        batch = list(islice(self._orders, count))
        while len(batch) < count and (path := self._next()) is not None:
            self._read.add(path)
            self._orders = read_presigned([path])
            batch += islice(self._orders, count - len(batch))
        return batch

    def _next(self) -> Path | None:
        if self._more is None:
            return None
        folder, prefix = self._more
        return min((p for p in folder.glob(f"{prefix}*.orders") if p not in self._read), default=None)


def read_presigned(paths: Sequence[Path]) -> Iterator[Outgoing]:
    """Read records back, as they are to be sent."""
    now = datetime.now(UTC)
    for path in paths:
        with path.open("rb") as file:
            while lengths := file.read(_LENGTHS.size):
                key, value, event_id, signature = map(file.read, _LENGTHS.unpack(lengths))
                yield record_of(
                    ORDER_TYPE, key.decode(), value, event_id=event_id.decode(), at=now, signature=signature.decode()
                )
