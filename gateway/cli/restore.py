"""``mypay restore …``: after PostgreSQL was restored to a point in time, so that nothing is paid twice or forgotten."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from gateway.app import restored_doubts, restoring
from gateway.cli.arguments import in_utc
from gateway.cli.common import CliError, ExitCode, Json, kafka, load_settings, postgres_dsn, print_json, run, say
from gateway.cli.operating import current_actor, operated
from gateway.database.roles import Role
from gateway.network.iso8583.config import load_networks
from schemas.primitives import NetworkId

app = typer.Typer(no_args_is_help=True)

To = Annotated[
    datetime,
    typer.Option(
        metavar="TIME", help="What the database was restored to, with its offset.", formats=["%Y-%m-%dT%H:%M:%S%z"]
    ),
]

Margin = Annotated[
    float,
    typer.Option(
        metavar="HOURS",
        min=0.1,
        max=8760,
        help="How much further back Kafka is read: above how far behind execution was then.",
    ),
]


def _moment(*, to: datetime, **_: object) -> str:
    moment = in_utc(to)
    if moment > datetime.now(UTC):
        # Nothing would be found that was paid since: all of it would be paid again.
        raise CliError(f"--to: no database was restored to {moment.isoformat()}, which is yet to come.", ExitCode.USAGE)
    return moment.isoformat(timespec="seconds")


def _network(*, network: str, **_: object) -> str:
    return network


@app.command()
@operated("restore begin", _moment)
def begin(to: To, margin: Margin = 1.0, json_: Json = False) -> None:
    """First, while no process runs: pause every network, leave numbers out that may be used, set groups back."""
    settings, actor = load_settings(), current_actor()
    done = run(
        restoring.begin(
            settings,
            postgres_dsn(settings, Role.OWNER),
            kafka(settings),
            to,
            operator=actor.operator,
            margin=timedelta(hours=margin),
        )
    )
    if json_:
        print_json(done)
        return
    say(f"Paused: {', '.join(done.paused) or 'all networks were'}. The next payment has number {done.next_number:,}.")
    for group, records in done.rewound.items():
        say(f"{group} reads {records:,} records again.")
    say("Now run the stages consents and relay alone; then `mypay restore payments` with the same --to.")


@app.command()
@operated("restore payments", _moment)
def payments(
    to: To,
    margin: Margin = 1.0,
    take: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PLACE",
            help="Of a payment that was handed on more than once: topic/partition/offset of the one that was sent, or, "
            "if none was, of any.",
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """Then, once commands on consents are done: write down again what was paid since, as Kafka tells."""
    settings = load_settings()
    back = timedelta(hours=margin)
    done = run(
        restoring.find_payments(
            settings,
            postgres_dsn(settings, Role.OWNER),
            kafka(settings),
            to,
            margin=back,
            take=frozenset(take or ()),
        )
    )
    if json_:
        print_json(_restored_json(done))
    else:
        _say_restored(done)
    if done.unplaced:
        raise typer.Exit(ExitCode.FAILED)


def _restored_json(done: restoring.Restored) -> dict[str, Any]:
    return {
        "told": done.told,
        "handed_on": done.handed_on,
        "again": done.again,
        "in_doubt": [key[1] for key in done.in_doubt],
        "caught_up": done.caught_up,
        "rejected": done.rejected,
        "not_rejected": [{"partner_id": p, "order_id": o} for p, o in done.not_rejected],
        "ended": [{"partner_id": p, "consent_id": c} for p, c in done.ended],
        "shared": [one._asdict() for one in done.shared],
        "exports": done.exports.whole,
        "exports_unplaced": [{"export_id": i, "why": why} for i, why in done.exports.unplaced.items()],
        "offers": done.offers.again,
        "offer_uses": done.offers.uses,
        "aggregates": done.offers.tables,
        "offers_unplaced": [{"offer_id": i, "why": why} for i, why in done.offers.unplaced.items()],
        "unplaced": [{"partner_id": k[0], "payment_id": k[1], "why": why} for k, why in done.unplaced.items()],
        "rewound": done.rewound,
    }


def _say_restored(done: restoring.Restored) -> None:
    say(f"{done.again:,} payments stand again, {done.caught_up:,} were brought up to what was told.")
    say(f"{len(done.in_doubt):,} may have been sent, and nobody was told: the network's clearing settles them.")
    say(f"{done.rejected:,} rejected orders stand so again. Initiation reads {done.rewound:,} records again.")
    for partner_id, consent_id in done.ended:
        say(f"Consent {consent_id} of {partner_id} had ended or been suspended, and is so again.")
    for share in done.shared:
        say(
            f"Affiliate {share.affiliate_id} was sent payments under consent {share.consent_id} of "
            f"{share.partner_id} that are not known here to be with it."
        )
    say(f"{done.exports.whole:,} exports are whole again; {done.exports.attempts:,} that are open begin anew.")
    for export_id, why in done.exports.unplaced.items():
        say(f"Export {export_id} was delivered and does not stand: {why}.")
    say(f"{done.offers.again:,} offers stand again, and {done.offers.uses:,} uses of offers.")
    say(f"Of the weeks of {done.offers.tables:,} aggregates that were told since nothing more is told.")
    for offer_id, why in done.offers.unplaced.items():
        say(f"Offer {offer_id} does not stand as its affiliate was told: {why}.")
    for partner_id, order_id in done.not_rejected:
        say(f"Order {order_id} of {partner_id} was told as ended and does not stand: it may be paid when it is due.")
    for key, why in done.unplaced.items():
        say(f"Payment {key[1]} of {key[0]} does not stand: {why}.")
    if done.unplaced:
        say("Initiation was not set back, for it would pay these again: run no stage, place them, run this again.")
    else:
        say("Now run every stage. Networks stay paused until `mypay network resume`.")


@app.command()
@operated("restore settle", _network)
def settle(
    network: Annotated[str, typer.Argument(metavar="NETWORK", help="As its file in MYPAY_NETWORKS_DIR names it.")],
    complete: Annotated[
        bool,
        typer.Option("--complete", help="All that it executed before the loss is cleared: the rest was not executed."),
    ] = False,
    json_: Json = False,
) -> None:
    """At last, once the network's clearing is in: settle payments that nobody was told of."""
    settings = load_settings()
    if network not in load_networks(settings.networks_dir):
        raise CliError(f"No network {network} is configured.", ExitCode.NOT_FOUND, hint="`mypay network list`")
    done = run(restored_doubts.settle(postgres_dsn(settings, Role.OWNER), NetworkId(network), complete=complete))
    told = {
        "executed": [d.key[1] for d, _ in done.executed],
        "not_executed": [d.key[1] for d in done.not_executed],
        "open": [d.key[1] for d in done.open],
    }
    if json_:
        print_json(told)
        return
    say(f"{len(done.executed):,} were executed and are approved; {len(done.not_executed):,} were not, and are undone.")
    for payment_id in told["open"]:
        say(f"Payment {payment_id} is still in doubt.")
