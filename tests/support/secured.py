"""A local stack whose Kafka asks everybody who they are."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from pydantic import SecretStr

from gateway.messaging.settings import KafkaSettings
from gateway.proving import stack as local
from tests.support.cli import mypay
from tests.support.stack import HOME, free_slot


@dataclass(frozen=True)
class Secured:
    """A running secured stack."""

    name: str
    address: str
    security: local.KafkaSecurity

    def password(self, name: str) -> str:
        return (self.security.credentials / f"{name}.password").read_text().strip()

    def as_user(self, name: str) -> KafkaSettings:
        return KafkaSettings(
            self.address,
            "SASL_SSL",
            username=name,
            password=SecretStr(self.password(name)),
            ssl_cafile=self.security.cafile,
        )

    def by_certificate(self, name: str) -> KafkaSettings:
        certificate = self.security.credentials / f"{name}.crt"
        if not certificate.exists():
            local.issue_certificate(self.security, name)
        return KafkaSettings(
            self.security.mutual,
            "SSL",
            ssl_cafile=self.security.cafile,
            ssl_certfile=certificate,
            ssl_keyfile=certificate.with_suffix(".key"),
        )


@contextmanager
def secured_stack(prefix: str, **settings: str) -> Iterator[Secured]:
    """One of its own, given to commands by its name, as a person would."""
    kept = dict(os.environ)
    with free_slot(prefix) as name:
        local.reset(name, home=HOME)
        for variable in [v for v in os.environ if v.startswith("MYPAY_")]:
            del os.environ[variable]
        os.environ |= {"MYPAY_HOME": str(HOME), "MYPAY_STACK": name, "MYPAY_LOG_LEVEL": "warning", **settings}
        try:
            told = mypay("local", "up", "--secure", "--name", name).expect()
            security = local.status(name, home=HOME).security
            assert security is not None
            made = Secured(name, local.status(name, home=HOME).kafka.address, security)
            assert made.password("mypay-admin") not in told.out + told.err
            yield made
        finally:
            os.environ.clear()
            os.environ |= kept
            local.reset(name, home=HOME)


@asynccontextmanager
async def connected(settings: KafkaSettings) -> AsyncIterator[Callable[[Any], Any]]:
    """Sends requests as they are, and gives the answers with their error codes."""
    admin = AIOKafkaAdminClient(**settings.client_arguments(), request_timeout_ms=10_000)
    try:
        await admin.start()
        yield admin._send_request
    finally:
        await admin.close()
