"""``mypay dead-letter …``: look at what no stage could read, and send it again once its cause is gone.

What a dead letter is to operators, and what sending it again means: :mod:`gateway.app.dead_letters`.
"""

import re
from typing import Annotated, Any, Final

import typer

from gateway.app.dead_letters import (
    Letter,
    ShownLetter,
    Wanted,
    content_of,
    letter_keys,
    read_letters,
    read_newest,
    shown_letter,
)
from gateway.app.letter_survey import open_references
from gateway.app.operations import REPLAY_PROPOSED_MAX
from gateway.app.sending_again import Asked
from gateway.app.sending_again import replay as send_again
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
from schemas.principals import Role
from schemas.topics import DEAD_LETTER, TOPICS

app = typer.Typer(no_args_is_help=True)

_STAGES: Final = tuple(
    role.value for topic in TOPICS if topic.name == DEAD_LETTER for role in topic.writers if role is not Role.OPS
)
"""Who writes dead letters; operators only note there what they sent again."""


def _stage(text: str) -> str:
    # A misspelt one has no letters, which would look like good news.
    if text not in _STAGES:
        raise typer.BadParameter(f"no stage writes dead letters under that name; these do: {', '.join(_STAGES)}")
    return text


Stage = Annotated[
    str | None, typer.Option(metavar="STAGE", parser=_stage, help=f"Of this stage alone: {', '.join(_STAGES)}.")
]


def _place(text: str) -> str:
    # All letters would be read to find none. A clearing file's stands in no topic, but is named in the same form.
    if not re.fullmatch(r"[^/\s]+/\d+/\d+", text):
        raise typer.BadParameter("it is TOPIC/PARTITION/OFFSET, as `mypay dead-letter list` shows it")
    return text


_IN_REASON = ("error", "message")
"""Told to people as the reason, in words."""

Reference = Annotated[
    str, typer.Argument(metavar="REF", parser=_place, help="Where the original stands: TOPIC/PARTITION/OFFSET.")
]


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
    settings = load_settings()
    wanted = Wanted(stage=None if forged else stage, only_open=not all_, forged=forged)
    found = run(read_newest(kafka(settings), lambda: letter_keys(settings), limit=limit, wanted=wanted))
    letters = found.letters[::-1]
    if found.strange and not forged:
        were = "record on the topic was" if found.strange == 1 else "records on the topic were"
        say(f"{found.strange} {were} not written by the gateway: `mypay dead-letter list --forged`.")
    if json_:
        print_json([_json(letter) for letter in letters])
        return
    rows = [(x.reference, x.stage or None, x.reason or None, x.parked_at, x.size, x.note) for x in letters]
    print_table("Dead letters", ("original", "stage", "reason", "parked", "bytes", ""), rows, right=("bytes",))
    if found.others:
        say(f"{found.others} older ones are not shown: --limit {len(letters) + found.others} shows them.")


@app.command()
def show(reference: Reference, json_: Json = False) -> None:
    """Show one dead letter; card numbers and private keys are masked, sealed originals stay sealed."""
    letter = _newest(run(_letters(load_settings(), reference)), reference)
    told = {**_json(shown_letter(letter)), **content_of(letter)}
    if json_:
        print_json(told)
        return
    shown = {name: value for name, value in told.items() if value not in (None, "", [], {}) and name not in _IN_REASON}
    rows = [(name.replace("_", " "), value) for name, value in shown.items()]
    print_table("Dead letter", ("", ""), [(n, _lines(v) if isinstance(v, dict) else v) for n, v in rows])


@app.command()
@operated("dead-letter replay", lambda *, reference, **_: reference or "all")
def replay(
    reference: Annotated[str | None, typer.Argument(metavar="REF", parser=_place, help="As `list` shows it.")] = None,
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
    if reference is not None:
        refs = [_newest(run(_letters(settings, reference)), reference).reference]
    else:
        refs = run(open_references(kafka(settings), lambda: letter_keys(settings), stage))
        if refs and not yes:
            typer.confirm(f"Send {len(refs)} originals again?", abort=True, err=True)
    if refs and needs_two(settings, propose=propose):
        refs, others = refs[:REPLAY_PROPOSED_MAX], len(refs) - REPLAY_PROPOSED_MAX
        whom = reference or f"{len(refs)} letters"
        told, proposed = carry_out(settings, "dead-letter.replay", whom, {"references": refs}, propose=True)
        if json_:
            print_json({"replayed": [], "refused": [], "proposal_id": proposed})
        else:
            say(told)
        if others > 0:
            say(f"{others} more are not in it: propose again once these were sent.")
        return
    asked = Asked(refs, only_open=all_)
    replayed, refused = run(send_again(kafka(settings), letter_keys(settings), asked)) if refs else ([], {})
    if json_:
        print_json({"replayed": replayed, "refused": [{"reference": r, "why": why} for r, why in refused.items()]})
    else:
        for ref, why in refused.items():
            say(f"{ref}: {why}")
        say(f"{len(replayed)} sent again, {len(refused)} not.")
    if refused:
        raise typer.Exit(ExitCode.FAILED)


async def _letters(settings: Settings, reference: str) -> list[Letter]:
    return await read_letters(kafka(settings), lambda: letter_keys(settings), references={reference})


def _newest(letters: list[Letter], reference: str) -> Letter:
    """The newest dead letter of an original."""
    found = [x for x in letters if x.reference == reference][-1:]
    if not found:
        raise CliError(
            f"No dead letter has the original {reference}.", ExitCode.NOT_FOUND, hint="`mypay dead-letter list`"
        )
    return found[0]


def _json(letter: ShownLetter) -> dict[str, Any]:
    return {
        "reference": letter.reference,
        "stage": letter.stage or None,
        "error": letter.error or None,
        "message": letter.message or None,
        "reason": letter.reason or None,
        "what_to_do": letter.advice or None,
        "arrived_at": letter.arrived_at,
        "parked_at": letter.parked_at,
        "bytes": letter.size,
        "note": letter.note,
    }


def _lines(headers: dict[str, str]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in headers.items())
