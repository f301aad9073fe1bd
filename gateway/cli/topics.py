"""``mypay topics …``: the topics of the topic table, for every registered partner and configured network."""

from collections.abc import Sequence
from typing import Annotated

import typer

from gateway.app.belonging import ANSWER_S, check_kafka
from gateway.app.registries import open_registries
from gateway.app.settings import Settings
from gateway.cli import topics_acl
from gateway.cli.common import (
    CliError,
    ExitCode,
    Json,
    kafka,
    load_settings,
    postgres_dsn,
    print_json,
    print_table,
    run,
    say,
)
from gateway.cli.operating import operated
from gateway.messaging.probe import NO_ANSWER, KafkaProbe
from gateway.messaging.reader import KafkaUnavailableError
from gateway.messaging.topics_admin import TopicState, TopicStatus, ensure_topics
from gateway.network.iso8583.config import load_networks
from gateway.views.affiliates import AffiliatesView
from gateway.views.partners import PartnersView
from gateway.views.recipients import RecipientsView
from schemas.topics import Topic, concrete_topics

app = typer.Typer(no_args_is_help=True)

app.command("acl")(topics_acl.command)

Replication = Annotated[
    int | None, typer.Option(min=1, help="Replicas of new topics. Default: MYPAY_KAFKA_REPLICATION_FACTOR.")
]


@app.command()
def apply(replication_factor: Replication = None, json_: Json = False) -> None:
    """Create what is missing, add partitions, set which records are taken: their size, and whose clock counts.

    Other differences are shown, never changed: each could lose data or order.
    The first time, the database notes which Kafka it belongs to; in another one's nothing is changed.
    """
    _ensure(replication_factor, json_=json_, change=True)


@app.command()
@operated("topics adopt", lambda *, cluster, **_: cluster)
def adopt(
    cluster: Annotated[str, typer.Argument(metavar="CLUSTER", help="Its id, as `mypay doctor` names it.")],
    json_: Json = False,
) -> None:
    """Let the database belong to the Kafka that is configured, once this gateway has moved to it.

    Only where no process of another gateway works with either of them: each would lose the other's orders.
    """
    settings = load_settings()

    async def move() -> str | None:
        probe = KafkaProbe(kafka(settings))
        if (found := await probe.cluster_id(timeout_s=ANSWER_S)) is None:
            raise KafkaUnavailableError(await probe.problem(timeout_s=ANSWER_S) or NO_ANSWER)
        if found != cluster:
            raise CliError(f"The Kafka that is configured is cluster {found}, not {cluster}.", ExitCode.USAGE)
        async with open_registries(postgres_dsn(settings)) as registries:
            return await registries.belonging.move(cluster)

    before = run(move())
    if json_:
        print_json({"cluster_id": cluster, "before": before})
    else:
        left = f", and no more to {before}" if before not in (None, cluster) else ""
        say(f"The database belongs to the Kafka cluster {cluster}{left}.")


@app.command()
def check(replication_factor: Replication = None, json_: Json = False) -> None:
    """Compare with the cluster and change nothing. The exit code is 0 when all is as it should be, else 1."""
    _ensure(replication_factor, json_=json_, change=False)


def _ensure(replication_factor: int | None, *, json_: bool, change: bool) -> None:
    settings = load_settings()
    found = run(_found(settings, replication_factor or settings.kafka_replication_factor, change=change))
    if json_:
        print_json(found)
    else:
        rows = [(t.name, t.state, "; ".join(t.differences)) for t in found]
        print_table("Topics", ("topic", "state", "differences"), rows)
    if any(t.state in (TopicState.MISSING, TopicState.DIFFERS) for t in found):
        raise typer.Exit(ExitCode.FAILED)


async def _found(settings: Settings, replication_factor: int, *, change: bool) -> Sequence[TopicStatus]:
    if change:
        async with open_registries(postgres_dsn(settings)) as registries:
            await check_kafka(registries.belonging, kafka(settings))
    topics = await wanted_topics(settings)
    return await ensure_topics(kafka(settings), topics, replication_factor=replication_factor, apply=change)


async def wanted_topics(settings: Settings) -> list[Topic]:
    """The topics of the table, for everybody who is registered and every configured network."""
    async with PartnersView.opened(postgres_dsn(settings)) as registered:
        partners = [p.partner_id for p in await registered.all()]
    async with RecipientsView.opened(postgres_dsn(settings)) as view:
        recipients = [r.org_code for r in await view.all()]
    async with AffiliatesView.opened(postgres_dsn(settings)) as registry:
        affiliates = [a.affiliate_id for a in await registry.all()]
    networks = load_networks(settings.networks_dir)
    return concrete_topics(partners=partners, networks=networks, recipients=recipients, affiliates=affiliates)
