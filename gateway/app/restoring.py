"""After PostgreSQL was restored to a point in time: holding the networks, finding forgotten payments, settling doubts.

The order matters, and ``deploy/RESTORE.md`` tells it to people. All of it runs as the tables' owner, may be cut and run
again, and sends nothing: what is open is then asked about or undone by execution, as what a dead worker left.
"""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from gateway.app import restored_exports, restored_offers, restored_shares
from gateway.app.belonging import check_kafka
from gateway.app.clock import SystemClock
from gateway.app.errors import NotConfiguredError
from gateway.app.keys import dispatch
from gateway.app.postgres import PostgresUnitOfWork
from gateway.app.registries import Registries
from gateway.app.restored_events import ToldShare, read_events
from gateway.app.restored_kept import Kept, open_kept
from gateway.app.restored_orders import ended_unsent
from gateway.app.settings import Settings
from gateway.consents.changing import ConsentCommandRefusedError, change_consent_status
from gateway.consents.postgres import TermsCache
from gateway.consents.rules.restored import ToldConsent
from gateway.database.errors import translated
from gateway.database.queries import load
from gateway.database.sessions import PEOPLE_S, session, session_settings
from gateway.marketing.restoring import OffersFound
from gateway.messaging.reader import read_since
from gateway.messaging.records import Record
from gateway.messaging.rewinding import committed, lag_of, rewind, topics_like
from gateway.messaging.settings import KafkaSettings
from gateway.network.iso8583.config import NetworkConfig, load_networks
from gateway.payments.dispatch import Dispatch, UntrustedRecordError
from gateway.payments.restoring.service import Found, HandedOn, catch_up_with, find_again
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import Payment, PaymentKey
from gateway.portability.restoring import ExportsFound
from gateway.sealing.marks import MarkProblem
from schemas.codec import DecodeError
from schemas.consents import ConsentStatus
from schemas.envelope import EnvelopeError
from schemas.primitives import ConsentId, NetworkId, PartnerId
from schemas.topics import (
    CONSENT_COMMANDS,
    ERASURES,
    OFFER_USES,
    ORDERS,
    PORTABILITY_REQUESTS,
    clearing_topic,
    dispatch_topic,
)

_SQL: Final = load(__name__, "restoring")

NUMBERS_PASSED: Final = 1_250_000
"""Payment numbers that are left out beyond the highest that was told: a loaded gateway gives them out in nine minutes,
and tells them within seconds. No multiple of the STANs of one terminal: with few terminals, too, others come next."""

FOLLOW_UPS_PASSED: Final = 100_000
"""The same of reversals and inquiries."""

TAKEN_AHEAD: Final = 2_000
"""Records of a partition behind what execution had committed that it may have had in hand, at least: with its batches
four."""

MARGIN: Final = timedelta(hours=1)
"""How much further back Kafka is read than the moment that was restored to: above how far behind execution was then."""

_BATCH: Final = 500
_DISPATCH: Final = dispatch_topic(NetworkId("x"))[:-1]
_WHY: Final = "restored to a point in time"


@asynccontextmanager
async def _owner(dsn: str) -> AsyncIterator[Any]:
    async with session(dsn, session_settings("mypay-restore", idle_in_transaction_s=PEOPLE_S)) as connection:
        yield connection


async def _check_together(dsn: str, kafka: KafkaSettings) -> None:
    """In another gateway's Kafka nothing is found that was paid since: all of it would be paid again."""
    async with _owner(dsn) as connection:
        await check_kafka(Registries(connection).belonging, kafka)


# --- begin ---


@dataclass(frozen=True, slots=True)
class Begun:
    """What was done.

    Attributes:
        paused: networks to which nothing is sent until they are resumed; those that were paused already are not named.
        next_number: the next payment's.
        rewound: group → records that it reads again.
    """

    paused: Sequence[str]
    next_number: int
    rewound: Mapping[str, int]


def groups_from_the_start(networks: Iterable[str]) -> Mapping[str, Sequence[str]]:
    """Group → topics that it reads again, before any payment is looked at.

    Each of these stages knows what it has done, so a record that comes again does nothing where its effect is there.
    Execution's groups are in no list: what they have taken may have been sent.
    """
    return {
        "mypay-consents": [CONSENT_COMMANDS],
        "mypay-settlement": [clearing_topic(n) for n in networks],
        "mypay-portability": [PORTABILITY_REQUESTS],
        "mypay-sharing": [ERASURES],
        "mypay-marketing": [OFFER_USES],
    }


async def begin(
    settings: Settings,
    dsn: str,
    kafka: KafkaSettings,
    to: datetime,
    *,
    operator: str,
    margin: timedelta = MARGIN,
) -> Begun:
    """Hold every network, leave numbers out, and set groups back. While no process of the gateway runs.

    ``dsn`` is the restored database, as the tables' owner; ``to`` the moment that it was restored to.

    Raises:
        NotConfiguredError: a network is missing in the settings, or the database belongs to another Kafka.
        GroupAliveError: a process still runs.
        KafkaUnavailableError, StoreUnavailableError: run it again.
    """
    networks = sorted(load_networks(settings.networks_dir))
    if not networks:
        raise NotConfiguredError(f"there is no network in {settings.networks_dir}")
    since = to - margin
    await _check_together(dsn, kafka)
    await _check_networks(kafka, networks, since)
    highest = (await read_events(kafka, since)).highest
    async with _owner(dsn) as connection:
        directory = Registries(connection).directory
        paused = [n for n in networks if await directory.pause_network(NetworkId(n), operator=operator, why=_WHY)]
        async with translated():
            await connection.fetch(_SQL.pass_numbers, NUMBERS_PASSED, FOLLOW_UPS_PASSED, highest)
            numbers = await connection.fetchrow(_SQL.numbers)
    rewound = {g: await rewind(kafka, g, topics, since) for g, topics in groups_from_the_start(networks).items()}
    return Begun(paused, numbers["payments"] + 1, rewound)


# --- payments ---


@dataclass(slots=True)
class Restored:
    """What was found. Of what stands as it was told there are numbers, of the rest there is each.

    Attributes:
        told: payments that partners were told of since; handed_on: records that execution may have taken since.
        again: payments that stand again, as they were told of; caught_up: those that stood at an earlier state.
        in_doubt: payments that nobody was told of.
        unplaced: payments of which what was told does not fit what is there, each with why: for people.
        shared: what partners were told to be shared since, of which it is not known here that the affiliate holds it.
        offers: that affiliates were told of since, and that stand again, with their uses.
        exports: that were delivered since and are whole again, and those under way, whose numbers were passed.
        ended: consents that were in force here and that partners had been told had ended or been suspended.
        rejected: orders that had been rejected as they came, and stand so again.
        not_rejected: (partner, order) whose partner was told that it had ended unsent, and that does not stand so: what
            was signed is not on Kafka, as of an occurrence of a standing order. It may be judged anew, and paid.
        rewound: orders that initiation reads again; none while a payment is unplaced, which would be paid again.
    """

    told: int = 0
    handed_on: int = 0
    again: int = 0
    caught_up: int = 0
    in_doubt: list[PaymentKey] = field(default_factory=list)
    unplaced: dict[PaymentKey, str] = field(default_factory=dict)
    shared: list[ToldShare] = field(default_factory=list)
    offers: OffersFound = field(default_factory=OffersFound)
    exports: ExportsFound = field(default_factory=ExportsFound)
    ended: list[tuple[str, str]] = field(default_factory=list)
    rejected: int = 0
    not_rejected: list[tuple[str, str]] = field(default_factory=list)
    rewound: int = 0

    def add(self, found: Found) -> None:
        """Count what a batch came to."""
        self.again += len(found.again)
        self.caught_up += len(found.caught_up)
        self.in_doubt += found.in_doubt
        self.unplaced |= found.unplaced


class NotYetError(Exception):
    """Something has to be done before; the text says what."""


async def find_payments(
    settings: Settings,
    dsn: str,
    kafka: KafkaSettings,
    to: datetime,
    *,
    margin: timedelta = MARGIN,
    take: frozenset[str] = frozenset(),
) -> Restored:
    """Write down again what the database has forgotten; then let initiation read the orders since again.

    Commands on consents are done by then: whatever ended stays ended.

    ``take``: of payments that were handed on more than once, the places of those that people found to be sent.

    Raises:
        NotYetError: commands on consents wait, numbers were not left out, or a record of the gateway's cannot be read.
        NotConfiguredError: a network is missing in the settings, there is no folder for what is kept meanwhile, or the
            database belongs to another Kafka.
        KafkaUnavailableError, StoreUnavailableError: run it again.
    """
    since, networks = to - margin, dict(sorted(load_networks(settings.networks_dir).items()))
    marks = dispatch(settings)
    done = Restored()
    with open_kept(lambda record, network_id: handed_on_of(record, marks, network_id)) as kept:
        await _check_together(dsn, kafka)
        if behind := await lag_of(kafka, "mypay-consents", [CONSENT_COMMANDS]):
            raise NotYetError(f"{behind} commands on consents wait: run the stage consents until it has done them")
        await _check_networks(kafka, networks, since)
        async with _owner(dsn) as connection:
            events = await read_events(kafka, since, begun=await _begun(connection, to), kept=kept)
            await _check_numbers(connection, events.highest)
            # All of it is read before anything is written: what was handed to several networks is seen by then.
            before = await _keep_handed_on(settings, kafka, networks, (since - margin, since), kept)
            await _check_taken(connection, [one for r, n in before if (one := _read_if_ours(r, marks, n)) is not None])
            kept.sort()
            if strange := kept.take(take):
                places = ", ".join(sorted(strange))
                raise NotYetError(f"nothing, or the same payment twice, was handed on at {places}")
            done.told, done.handed_on = kept.counts()
            done.ended = await _end_consents(connection, events.consents)
            await _find_again(connection, networks, kept, done)
            await _catch_up(connection, kept, done)
            shared = {((PartnerId(p), ConsentId(c)), a): s for (p, c, a), s in events.shared.items()}
            known = await restored_shares.stand_again(connection, kafka, settings, since, shared)
            done.shared = [ToldShare(*key, a) for key, a in sorted(set(shared) - known)]
            offers = await restored_offers.read_offers(kafka, since, events.offered)
            done.offers = await restored_offers.stand_again(connection, offers)
            exports = await restored_exports.read_exports(kafka, since, events.delivered)
            done.exports = await restored_exports.stand_again(connection, exports)
            done.rejected = await _stand_ended(connection, kafka, kept, since)
            done.not_rejected = await _not_ended(connection, kept)
    if not done.unplaced:
        done.rewound = await rewind(kafka, "mypay-initiation", [ORDERS], since)
    return done


async def _check_networks(kafka: KafkaSettings, networks: Collection[str], since: datetime) -> None:
    """Whatever was handed on is looked at, or nothing is done: what is passed over would be paid again."""
    for topic in await topics_like(kafka, _DISPATCH):
        if topic.removeprefix(_DISPATCH) not in networks:
            async for _ in read_since(kafka, topic, since):
                raise NotConfiguredError(
                    f"payments were handed to {topic.removeprefix(_DISPATCH)}, which MYPAY_NETWORKS_DIR does not name"
                )


async def _begun(connection: Any, to: datetime) -> datetime:
    async with translated():
        begun: datetime | None = (await connection.fetchrow(_SQL.begun, to))["at"]
    if begun is None:
        raise NotYetError("no `mypay restore begin` is on record since that moment: begin first")
    return begun


async def _keep_handed_on(
    settings: Settings, kafka: KafkaSettings, networks: Iterable[str], reading: tuple[datetime, datetime], kept: Kept
) -> list[tuple[Record, NetworkId]]:
    """What execution may have taken, in the order of each partition. What others wrote there is parked by execution.

    ``reading``: from when on, and from when on what is found counts. Returns the last record of each partition before.
    """
    ahead = max(TAKEN_AHEAD, 4 * settings.execution_batch_max)
    since_ms, before = int(reading[1].timestamp() * 1000), dict[tuple[str, int], tuple[Record, NetworkId]]()
    for network in networks:
        network_id = NetworkId(network)
        topic = dispatch_topic(network_id)
        taken = await committed(kafka, f"mypay-execution-{network_id}")
        async for record in read_since(kafka, topic, reading[0]):
            if record.timestamp_ms < since_ms:
                before[topic, record.partition] = (record, network_id)
                continue
            # Of a partition without a commit nobody knows how far it was taken.
            end = taken.get((topic, record.partition))
            if end is None or record.offset < end + ahead:
                kept.hand_on(record, network_id)
    return list(before.values())


def _read_if_ours(record: Record, marks: Dispatch, network_id: NetworkId) -> HandedOn | None:
    try:
        return handed_on_of(record, marks, network_id)
    except NotYetError:
        # It is older than what is looked at: its key or release may be gone.
        return None


async def _check_taken(connection: Any, before: Sequence[HandedOn]) -> None:
    """What was handed on last before what is looked at had been taken at the moment that was restored to.

    Execution takes a partition's records in their order: if it had not, others before it had not either, and may have
    been sent since. Nobody would find them here.
    """
    standing = await _standing(connection, [b.key for b in before])
    for one in before:
        # What waits for its day was handed on, and not taken.
        if standing.get(one.key, PaymentState.SCHEDULED) == PaymentState.SCHEDULED:
            raise NotYetError(
                f"execution was further behind: {one.place} was handed on before what is looked at, and had not been "
                "taken at that moment; give both commands a greater --margin"
            )


async def _find_again(connection: Any, networks: Mapping[str, NetworkConfig], kept: Kept, done: Restored) -> None:
    several = kept.ambiguous()
    for network_id, config in networks.items():
        terminals = tuple(config.terminals.ids)
        for batch in kept.handed_on(NetworkId(network_id)):
            told = kept.told({one.key for one in batch})
            async with translated(), connection.transaction():
                uow, now = PostgresUnitOfWork(connection, TermsCache()), datetime.now(UTC)
                found = await find_again(uow, batch, told, terminals=terminals, now=now, several=several)
            kept.note_found((*found.again, *found.in_doubt, *found.unplaced))
            done.add(found)


async def _catch_up(connection: Any, kept: Kept, done: Restored) -> None:
    """Bring up what stood at an earlier state than was told, and name what was told as sent and does not stand."""
    for page in kept.all_told():
        kept.await_end([t.key for t in page if t.ended_unsent])
        batch = [t for t in page if not kept.was_found(t.key)]
        async with translated(), connection.transaction():
            uow = PostgresUnitOfWork(connection, TermsCache())
            done.add(await catch_up_with(uow, batch, now=datetime.now(UTC)))


def handed_on_of(record: Record, marks: Dispatch, network_id: NetworkId) -> HandedOn | None:
    """What a record of an execution's topic hands on; None where nobody of the gateway wrote it.

    Raises:
        NotYetError: the gateway wrote it, or may have, and it cannot be read here: it may have been paid.
    """
    try:
        read = marks.read(record, network_id)
        received = read.refund() if read.is_refund else read.order()
    except UntrustedRecordError as error:
        if error.why != MarkProblem.UNKNOWN_KEY:
            return None
        raise NotYetError(f"{record.reference} {error}: it needs every internal key of the time since") from None
    except (EnvelopeError, DecodeError) as error:
        raise NotYetError(f"{record.reference} cannot be read by this release ({error})") from None
    return HandedOn(received, network_id, read.judged.judged_at, record.reference)


async def _stand_ended(connection: Any, kafka: KafkaSettings, kept: Kept, since: datetime) -> int:
    """What was told to have ended before execution: what the partner signed is on the orders' topic."""
    made, batch = 0, dict[PaymentKey, Payment]()

    async def write() -> int:
        async with translated(), connection.transaction():
            return len(await PostgresUnitOfWork(connection, TermsCache()).payments.insert(list(batch.values())))

    async for payments in ended_unsent(connection, kafka, kept.awaited, since):
        for payment in payments:
            batch.setdefault(payment.key, payment)
            kept.stands(payment.key)
        if len(batch) >= _BATCH:
            made += await write()
            batch.clear()
    return made + (await write() if batch else 0)


async def _standing(connection: Any, keys: Sequence[PaymentKey]) -> Mapping[PaymentKey, str]:
    """The states of those payments that are here, or in the archive."""
    async with translated():
        rows = await connection.fetch(_SQL.standing, [k[0] for k in keys], [k[1] for k in keys])
    return {(r["partner_id"], r["payment_id"]): r["state"] for r in rows}


async def _not_ended(connection: Any, kept: Kept) -> list[tuple[str, str]]:
    """What was told to have ended unsent, and has no payment here."""
    found: list[tuple[str, str]] = []
    for page in kept.still_awaited():
        standing = await _standing(connection, [t.key for t in page])
        found += [(t.key[0], t.last.order_id) for t in page if t.key not in standing]
    return found


async def _check_numbers(connection: Any, highest: int) -> None:
    async with translated():
        numbers = await connection.fetchrow(_SQL.numbers)
    if highest > numbers["payments"]:
        raise NotYetError(f"payment number {highest} was used, and the next one is not above it: begin first")


async def _end_consents(connection: Any, told: Mapping[tuple[str, str], ToldConsent]) -> list[tuple[str, str]]:
    """End or suspend what partners were told had ended, where no command did so again: what operators and time did."""
    keys = list(told)
    async with translated():
        rows = await connection.fetch(_SQL.consents, [k[0] for k in keys], [k[1] for k in keys])
    here = {(r["partner_id"], r["consent_id"]): ConsentStatus(r["status"]) for r in rows}
    ended: list[tuple[str, str]] = []
    changes = Registries(connection).consent_changes
    for (partner_id, consent_id), status in here.items():
        key = (PartnerId(partner_id), ConsentId(consent_id))
        for command, purposes in told[partner_id, consent_id].ends(status):
            try:
                await change_consent_status(changes, SystemClock(), key, command, reason=_WHY, purposes=purposes)
            except ConsentCommandRefusedError:
                continue  # it was over here, too
            ended.append((partner_id, consent_id))
    return ended
