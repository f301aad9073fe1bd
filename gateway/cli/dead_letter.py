"""``mypay dead-letter …``: look at what no stage could read, and send it again once its cause is gone.

What a dead letter is to operators, and what sending it again means: :mod:`gateway.app.dead_letters`.
"""

from typing import Annotated, Any

import typer

from gateway.app.dead_letters import Letter, content_of, letter_keys, moment, read_letters
from gateway.app.dead_letters import replay as send_again
from gateway.app.settings import Settings
from gateway.cli.common import (
    CliError,
    ExitCode,
    Json,
    kafka,
    load_settings,
    print_json,
    print_table,
    run,
    say,
)
from gateway.cli.operating import operated
from gateway.cli.operations import Propose, carry_out, needs_two

app = typer.Typer(help="Records that no stage could read.", no_args_is_help=True)

Stage = Annotated[str | None, typer.Option(help="Of this stage alone.")]
Reference = Annotated[str, typer.Argument(metavar="REF", help="Where the original stands: TOPIC/PARTITION/OFFSET.")]


@app.command("list")
def list_(
    stage: Stage = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Letters at most: the newest.")] = 50,
    all_: Annotated[bool, typer.Option("--all", help="Those too that were sent again.")] = False,
    forged: Annotated[
        bool, typer.Option("--forged", help="Instead: what others than the gateway have written to the topic.")
    ] = False,
    json_: Json = False,
) -> None:
    """Show dead letters that were not sent again, newest last."""
    everything = run(_letters(load_settings(), None if forged else stage))
    others = [x for x in everything if x.fate is None]
    found = others if forged else [x for x in everything if x.fate is not None and (all_ or not x.replayed)]
    letters = found[-limit:]
    if others and not forged:
        say(f"{len(others)} records on the topic were not written by the gateway: `mypay dead-letter list --forged`.")
    if json_:
        print_json([_json(letter) for letter in letters])
        return
    rows = [
        (x.reference, x.fate and x.fate.stage, x.reason or None, x.parked_at, len(x.record.value), x.note)
        for x in letters
    ]
    print_table("Dead letters", ("original", "stage", "reason", "parked", "bytes", ""), rows, right=("bytes",))
    if len(found) > limit:
        say(f"{len(found) - limit} older ones are not shown: --limit {len(found)} shows them.")


@app.command()
def show(reference: Reference, json_: Json = False) -> None:
    """Show one dead letter; card numbers and private keys are masked, sealed originals stay sealed."""
    letter = _newest(run(_letters(load_settings(), None)), reference)
    told = {**_json(letter), **content_of(letter)}
    if json_:
        print_json(told)
        return
    rows = [(name.replace("_", " "), value) for name, value in told.items() if value not in (None, "", [], {})]
    print_table("Dead letter", ("", ""), [(n, _lines(v) if isinstance(v, dict) else v) for n, v in rows])


@app.command()
@operated("dead-letter replay", lambda *, reference, **_: reference or "all")
def replay(
    reference: Annotated[str | None, typer.Argument(metavar="[REF]", help="As `list` shows it.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every one that was not sent again yet.")] = False,
    stage: Stage = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before --all.")] = False,
    propose: Propose = False,
    json_: Json = False,
) -> None:
    """Send originals again to where they came from: same bytes, key and headers. The dead letters stay.

    Stages are idempotent: what was handled meanwhile is not handled twice.
    """
    if (reference is None) is not all_:
        raise CliError("Name one original, or --all.", ExitCode.USAGE)
    settings = load_settings()
    everything = run(_letters(settings, None))
    if reference is not None:
        letters = [_newest(everything, reference)]
    else:
        wanted = [x for x in everything if x.is_open and x.fate and stage in {None, x.fate.stage}]
        letters = list({x.reference: x for x in wanted}.values())
        if letters and not yes:
            typer.confirm(f"Send {len(letters)} originals again?", abort=True, err=True)
    if letters and needs_two(settings, propose=propose):
        refs = [x.reference for x in letters]
        whom = reference or f"{len(refs)} letters"
        told, proposed = carry_out(settings, "dead-letter.replay", whom, {"references": refs}, propose=True)
        if json_:
            print_json({"replayed": [], "refused": [], "proposal_id": proposed})
        else:
            say(told)
        return
    replayed, refused = run(_replay(settings, letters, everything))
    if json_:
        print_json({"replayed": replayed, "refused": [{"reference": r, "why": why} for r, why in refused.items()]})
    else:
        for ref, why in refused.items():
            say(f"{ref}: {why}")
        say(f"{len(replayed)} sent again, {len(refused)} not.")
    if refused:
        raise typer.Exit(ExitCode.FAILED)


async def _letters(settings: Settings, stage: str | None) -> list[Letter]:
    return await read_letters(kafka(settings), lambda: letter_keys(settings), stage)


async def _replay(
    settings: Settings, letters: list[Letter], everything: list[Letter]
) -> tuple[list[str], dict[str, str]]:
    return await send_again(kafka(settings), letters, everything, letter_keys(settings))


def _newest(letters: list[Letter], reference: str) -> Letter:
    """The newest dead letter of an original."""
    found = [x for x in letters if x.reference == reference][-1:]
    if not found:
        raise CliError(
            f"No dead letter has the original {reference}.", ExitCode.NOT_FOUND, hint="`mypay dead-letter list`"
        )
    return found[0]


def _json(letter: Letter) -> dict[str, Any]:
    fate = letter.fate
    return {
        "reference": letter.reference,
        "stage": fate and fate.stage,
        "error": fate and fate.error,
        "message": fate and fate.message,
        "arrived_at": fate and moment(fate.timestamp_ms),
        "parked_at": letter.parked_at,
        "bytes": len(letter.record.value),
        "note": letter.note,
    }


def _lines(headers: dict[str, str]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in headers.items())
