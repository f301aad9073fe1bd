"""``mypay dead-letter …``: look at what no stage could read, and send it again once its cause is gone.

Nothing is taken out of the topic. What was sent again is noted there; a dead letter counts as open while no note names
it. Letters and notes count only with the gateway's mark: whoever else writes to the topic shows nothing, sends nothing
and hides nothing. What is sent again takes the way that it took first, and every check is made again.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer

from gateway.app.keys import Ring, load_ring
from gateway.app.settings import Settings
from gateway.cli.common import (
    CliError,
    ExitCode,
    Json,
    kafka,
    load_settings,
    open_publisher,
    print_json,
    print_table,
    run,
    say,
)
from gateway.cli.operating import operated
from gateway.messaging.dead_letters import (
    DeadLetterError,
    Fate,
    LetterKeys,
    looks_like_note,
    read_fate,
    read_note,
    replay_note,
    restore,
)
from gateway.messaging.reader import open_reader
from gateway.messaging.records import Outgoing, Record
from gateway.sealing.redaction import redact
from gateway.sealing.sealing import NoMasterKeyError, UnsealError
from gateway.settlement.files import FILE_TOPIC_PREFIX
from schemas.topics import DEAD_LETTER

app = typer.Typer(help="Records that no stage could read.", no_args_is_help=True)

SHOWN_CHARS_MAX: Final = 4_000

_REPLAY_BATCH: Final = 200
"""Originals are up to 1 MiB: what is held at a time stays bounded."""

Stage = Annotated[str | None, typer.Option(help="Of this stage alone.")]
Reference = Annotated[str, typer.Argument(metavar="REF", help="Where the original stands: TOPIC/PARTITION/OFFSET.")]


@dataclass(slots=True)
class _Letter:
    """A dead letter with its fate; without one, somebody else wrote it, whatever it says of itself."""

    record: Record
    fate: Fate | None
    replayed: bool = False

    @property
    def reference(self) -> str:
        return self.fate.reference if self.fate else self.record.reference

    @property
    def parked_at(self) -> datetime | str:
        return _moment(self.record.timestamp_ms)

    @property
    def note(self) -> str:
        if self.fate is None:
            return "not written by the gateway"
        notes = []
        if self.fate.omitted:
            notes.append(f"left out: {self.fate.omitted}")
        if self.fate.sealed:
            notes.append("sealed")
        if self.replayed:
            notes.append("sent again")
        return ", ".join(notes)


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
        (x.reference, x.fate and x.fate.stage, x.fate and _reason(x.fate), x.parked_at, len(x.record.value), x.note)
        for x in letters
    ]
    print_table("Dead letters", ("original", "stage", "reason", "parked", "bytes", ""), rows, right=("bytes",))
    if len(found) > limit:
        say(f"{len(found) - limit} older ones are not shown: --limit {len(found)} shows them.")


@app.command()
def show(reference: Reference, json_: Json = False) -> None:
    """Show one dead letter; card numbers and private keys are masked, sealed originals stay sealed."""
    letter = run(_one(load_settings(), reference))
    told = {**_json(letter), **_content(letter)}
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
    json_: Json = False,
) -> None:
    """Send originals again to where they came from: same bytes, key and headers. The dead letters stay.

    Stages are idempotent: what was handled meanwhile is not handled twice.
    """
    if (reference is None) is not all_:
        raise CliError("Name one original, or --all.", ExitCode.USAGE)
    settings = load_settings()
    everything = run(_letters(settings, None))
    keys = _keys(settings)
    if reference is not None:
        letters = [_newest(everything, reference)]
    else:
        wanted = [x for x in everything if x.fate and not x.replayed and stage in {None, x.fate.stage}]
        letters = list({x.reference: x for x in wanted}.values())
        if letters and not yes:
            typer.confirm(f"Send {len(letters)} originals again?", abort=True, err=True)
    # A record that was parked twice is sent again once, and all its letters are noted.
    alike = [(x, [y for y in everything if y.fate and y.reference == x.reference]) for x in letters]
    replayed, refused = run(_replay(settings, alike, keys))
    if json_:
        print_json({"replayed": replayed, "refused": [{"reference": r, "why": why} for r, why in refused.items()]})
    else:
        for ref, why in refused.items():
            say(f"{ref}: {why}")
        say(f"{len(replayed)} sent again, {len(refused)} not.")
    if refused:
        raise typer.Exit(ExitCode.FAILED)


# --- reading ----------------------------------------------------------------------------------------------------------


async def _letters(settings: Settings, stage: str | None) -> list[_Letter]:
    """Every dead letter, oldest first."""
    letters: dict[str, _Letter] = {}
    replayed: set[str] = set()
    async with open_reader(kafka(settings), DEAD_LETTER) as reader:
        keys = _keys(settings)
        async for record in reader.read_all():
            if looks_like_note(record) and (noted := read_note(record, keys)) is not None:
                replayed.add(noted)
                continue
            letter = _Letter(record, _fate(record, keys))
            if stage is None or (letter.fate is not None and letter.fate.stage == stage):
                # The same letter again, copied by somebody, is the same letter.
                letters.setdefault(letter.fate.letter_id if letter.fate else record.reference, letter)
    for letter_id, letter in letters.items():
        letter.replayed = letter_id in replayed
    return sorted(letters.values(), key=lambda x: x.record.timestamp_ms)


async def _one(settings: Settings, reference: str) -> _Letter:
    """The newest dead letter of an original."""
    return _newest(await _letters(settings, None), reference)


def _newest(letters: list[_Letter], reference: str) -> _Letter:
    found = [x for x in letters if x.reference == reference][-1:]
    if not found:
        raise CliError(
            f"No dead letter has the original {reference}.", ExitCode.NOT_FOUND, hint="`mypay dead-letter list`"
        )
    return found[0]


def _keys(settings: Settings) -> LetterKeys:
    return LetterKeys(load_ring(settings, Ring.DEAD_LETTER))


def _fate(record: Record, keys: LetterKeys) -> Fate | None:
    try:
        return read_fate(record, keys)
    except DeadLetterError:
        return None


# --- sending again ----------------------------------------------------------------------------------------------------


async def _replay(
    settings: Settings, letters: list[tuple[_Letter, list[_Letter]]], keys: LetterKeys
) -> tuple[list[str], dict[str, str]]:
    replayed: list[str] = []
    refused: dict[str, str] = {}
    async with open_publisher(settings) as publisher:
        for begin in range(0, len(letters), _REPLAY_BATCH):
            batch: dict[str, Outgoing] = {}
            notes: list[Outgoing] = []
            for letter, alike in letters[begin : begin + _REPLAY_BATCH]:
                original = _original(letter, keys)
                if isinstance(original, str):
                    refused[letter.reference] = original
                else:
                    batch[letter.reference] = original
                    notes += [replay_note(x.fate.letter_id, x.reference, keys) for x in alike if x.fate]
            await publisher.publish(list(batch.values()))
            await publisher.publish(notes)
            replayed += batch
    return replayed, refused


def _original(letter: _Letter, keys: LetterKeys) -> Outgoing | str:
    """The original as it came, or why it cannot be sent again."""
    fate = letter.fate
    if fate is None:
        return f"it was {letter.note}, and is not sent anywhere"
    if fate.topic.startswith(FILE_TOPIC_PREFIX):
        return "it is a line of a file: correct the file and import it again"
    try:
        original = restore(letter.record, keys)
    except (DeadLetterError, NoMasterKeyError, UnsealError) as error:
        return str(error)
    return Outgoing(topic=fate.topic, key=original.key, value=original.value, headers=original.headers)


# --- showing ----------------------------------------------------------------------------------------------------------


def _json(letter: _Letter) -> dict[str, Any]:
    fate = letter.fate
    return {
        "reference": letter.reference,
        "stage": fate and fate.stage,
        "error": fate and fate.error,
        "message": fate and fate.message,
        "arrived_at": fate and _moment(fate.timestamp_ms),
        "parked_at": letter.parked_at,
        "bytes": len(letter.record.value),
        "note": letter.note,
    }


def _content(letter: _Letter) -> dict[str, Any]:
    """Key, headers and value as far as people may see them.

    What the gateway parked in clear holds no secret that it knows; it is masked all the same, for others may have
    written here.
    """
    fate, record = letter.fate, letter.record
    sealed = fate is not None and fate.sealed
    headers = [(n, v) for n, v in record.headers if not n.startswith(("kafka_dlt-", "mypay-"))]
    return {
        "key": None if record.key is None else _visible(record.key),
        "headers": {_visible(n.encode()): _visible(v) for n, v in headers},
        "value": "(sealed: it holds a secret, or digits that may be a card number; replay opens it)"
        if sealed
        else _visible(record.value),
    }


def _visible(data: bytes) -> str:
    """Text with secrets masked, and nothing in it that a terminal would obey."""
    text = redact(data.decode("utf-8", "backslashreplace"))
    if len(text) > SHOWN_CHARS_MAX:
        text = f"{text[:SHOWN_CHARS_MAX]}… ({len(data)} bytes)"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _moment(timestamp_ms: int) -> datetime | str:
    """A Kafka timestamp as a time; whoever produced the record may have chosen a number that is none."""
    try:
        return datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{timestamp_ms} ms"


def _reason(fate: Fate) -> str:
    return f"{fate.error.rpartition('.')[2]}: {fate.message}"


def _lines(headers: dict[str, str]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in headers.items())
