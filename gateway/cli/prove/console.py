"""``mypay prove console``: how long each page of the operators' console takes on a grown database."""

import sys
from typing import Annotated

import typer

from gateway.cli.common import CliError, ExitCode, run


def command(
    dsn: Annotated[
        str, typer.Option(help="The database, as a superuser: one of its own, with nobody's payments in it.")
    ],
    payments: Annotated[int, typer.Option(min=1000, help="How many it is to have; those that lack are added.")] = (
        10_000_000
    ),
    with_events: Annotated[int, typer.Option(min=0, help="How many of them have events and disclosures.")] = 1_000_000,
    rounds: Annotated[int, typer.Option(min=10, help="How often each page is asked for.")] = 200,
) -> None:
    """Fill a database of one's own with payments of the past, and ask the console for every page and search.

    Each time for other payments and consents, so that little is in memory. Dead letters are left out: they are in
    Kafka. The exit code is 0 only if the 99th percentile of every page is within 100 ms.
    """
    try:
        from gateway.proving.bench.pages import P99_MS, PagesError, measure_pages  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise CliError(f"It needs the package {error.name}.", hint="Run `make install`.") from error

    def told(text: str) -> None:
        print(text, file=sys.stderr)  # noqa: T201 - a person waits

    try:
        pages = run(measure_pages(dsn, payments=payments, with_events=with_events, rounds=rounds, tell=told))
    except PagesError as error:
        raise CliError(str(error)) from error
    for page in pages:
        typer.echo(f"{page.name:<24} p50 {page.p50_ms:7.1f} ms   p99 {page.p99_ms:7.1f} ms   max {page.max_ms:7.1f} ms")
    worst = max(pages, key=lambda p: p.p99_ms)
    typer.echo(
        f"console: payments={payments} pages={len(pages)} rounds={rounds} worst={worst.name!r} "
        f"p99_ms={worst.p99_ms:.1f}"
    )
    if worst.p99_ms > P99_MS:
        raise typer.Exit(ExitCode.FAILED)
