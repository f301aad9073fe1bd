"""Who may sign: partners and identity providers, kept fresh."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from gateway.app.policy import differs, digest_of
from gateway.app.postgres import PostgresStore
from gateway.app.process import Process
from gateway.app.watching import watch_keys
from gateway.base.retrying import until_done
from gateway.identity.jose.assertion import JwsAssertionVerifier
from gateway.identity.jose.issuers import TICK_SECONDS, CachedTrustTable, PolicyNotAppliedError
from gateway.identity.jose.keys import CachedKeySource, Registry
from gateway.identity.jose.signature import JwsVerifier
from gateway.identity.no_providers import NoProofWhileItCounts
from gateway.identity.registry import PostgresAppliedPolicy, PostgresRevocations
from gateway.identity.signing import KeySource, SignatureVerifier
from gateway.identity.store import AssertionVerifier, TrustTable


@dataclass(frozen=True, slots=True)
class Signers:
    """Who may sign: partners with their keys, and trusted identity providers.

    Attributes:
        keys, signatures: of partners.
        trust, assertions: of identity providers, for their customers' proofs.
    """

    keys: KeySource
    signatures: SignatureVerifier
    trust: TrustTable
    assertions: AssertionVerifier


@asynccontextmanager
async def signers(process: Process) -> AsyncIterator[Signers]:
    """The registries of keys and identity providers, started, and kept fresh.

    Raises:
        NotConfiguredError: the trust policy here is not the one that counts.
    """
    keys = CachedKeySource(_registry_loader(process.store), process.observer)
    watch_keys(process, "partner-keys", lambda: keys.age_seconds)
    await until_done(partial(keys.start, process.settings.registry_refresh_s))
    try:
        async with _trust(process) as (trust, assertions):
            yield Signers(keys, JwsVerifier(keys), trust, assertions)
    finally:
        await keys.stop()


@asynccontextmanager
async def _trust(process: Process) -> AsyncIterator[tuple[TrustTable, AssertionVerifier]]:
    folder = process.settings.issuers_dir
    applied = PostgresAppliedPolicy(process.store)
    process.observer.level("no_proof_asked", float(folder is None))
    if folder is None:
        found, counts = digest_of(process.settings), await until_done(applied)
        if found != counts:
            raise differs(PolicyNotAppliedError(found, counts))
        process.observer.note("no_customers_proof_is_asked_for", level="warning")
        nobody = NoProofWhileItCounts(partial(_is_applied, applied, found), process.observer)
        looking = asyncio.create_task(_keep_looking(nobody), name="trust-policy")
        try:
            yield nobody, nobody
        finally:
            looking.cancel()
            await asyncio.wait([looking])
        return
    table = CachedTrustTable(folder, process.observer, revocations=PostgresRevocations(process.store), applied=applied)
    try:
        await until_done(table.start)
    except PolicyNotAppliedError as error:
        raise differs(error) from None
    try:
        yield table, JwsAssertionVerifier(table)
    finally:
        await table.stop()


async def _is_applied(applied: PostgresAppliedPolicy, digest: str) -> bool:
    return await applied() == digest


async def _keep_looking(nobody: NoProofWhileItCounts) -> None:
    while True:
        await asyncio.sleep(TICK_SECONDS)
        await nobody.look()


def _registry_loader(store: PostgresStore) -> Callable[[], Awaitable[Registry]]:
    async def load() -> Registry:
        async with store.reading() as uow:
            return await uow.directory.active_partners(), await uow.directory.partner_keys()

    return load
