"""``mypay outbox``: events on their way to Kafka, and those that it did not take."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from gateway.cli.common import Json, load_settings, postgres_dsn, print_json, print_table, run, say_if_cut
from gateway.database.roles import Role
from gateway.views.attention import COUNTED_MAX, AttentionView, Waiting
from gateway.views.lists import ListsView, ParkedEvent


def command(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Parked events at most, the oldest first.")] = 100,
    json_: Json = False,
) -> None:
    """Show how many events wait for the relay, how old the oldest is, and which were put aside."""
    waiting, parked = run(_read(limit))
    say_if_cut(parked, limit)
    age = None if waiting.oldest is None else round((datetime.now(UTC) - waiting.oldest).total_seconds(), 3)
    if json_:
        at_least = waiting.rows > COUNTED_MAX
        told = {"waiting": min(waiting.rows, COUNTED_MAX), "at_least": at_least, "oldest_seconds": age}
        print_json(told | {"parked": waiting.parked, "parked_events": parked})
        return
    count = f"more than {COUNTED_MAX:,}" if waiting.rows > COUNTED_MAX else f"{waiting.rows:,}"
    rows = [
        ("waiting", count),
        ("oldest waits for", "" if age is None else f"{age:,.1f} s"),
        ("parked", waiting.parked),
    ]
    print_table("Outbox", ("", ""), rows)
    if parked:
        print_table(
            "Parked",
            ("topic", "event", "type", "occurred", "parked", "reason"),
            [(p.topic, p.event_id, p.event_type, p.occurred_at, p.parked_at, p.reason) for p in parked],
        )


async def _read(limit: int) -> tuple[Waiting, list[ParkedEvent]]:
    dsn = postgres_dsn(load_settings(), Role.READONLY)
    async with AttentionView.opened(dsn) as attention:
        waiting = await attention.waiting()
    if not waiting.parked:
        return waiting, []
    async with ListsView.opened(dsn) as lists:
        return waiting, await lists.parked_events(limit=limit)
