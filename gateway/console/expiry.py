"""The console's page of keys and certificates that end."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from aiohttp import web
from cryptography import x509

from gateway.console.web import Console
from gateway.views.attention import AttentionView

AHEAD: Final = timedelta(days=365)
SOON: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Ending:
    """A key or certificate that ends."""

    kind: str
    whose: str
    name: str
    at: datetime


async def expiry(console: Console, request: web.Request) -> web.Response:
    """Keys and certificates, the next to end first."""
    async with console.database.view(AttentionView) as attention:
        keys = await attention.expiries(before=console.clock.now() + AHEAD)
    endings = [Ending(k.kind, k.whose, k.kid, k.valid_until) for k in keys]
    endings += await asyncio.to_thread(_certificates, console)
    return console.page(request, "expiry.html", endings=sorted(endings, key=lambda e: e.at), soon=SOON)


def _certificates(console: Console) -> list[Ending]:
    """Those of the files that this process can read: it need not hold the stages' own."""
    settings = console.settings
    files = {
        "Kafka": settings.kafka_ssl_certfile,
        "Kafka CA": settings.kafka_ssl_cafile,
        "portability API": settings.portability_api_certificate_file,
        "portability API clients' CA": settings.portability_api_clients_file,
    }
    for network in console.networks.values():
        if network.tls is not None:
            files[network.network_id] = network.tls.certificate
            files[f"{network.network_id} CA"] = network.tls.ca
    found = []
    for whose, path in files.items():
        if path is None:
            continue
        try:
            certificates = x509.load_pem_x509_certificates(path.read_bytes())
        except (OSError, ValueError):
            continue
        found += [Ending("certificate", whose, path.name, c.not_valid_after_utc.astimezone(UTC)) for c in certificates]
    return found
