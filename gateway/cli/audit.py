"""``mypay audit …``: the disclosure log, verified: all of it from the database, or one proof without any."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway.app.disclosure import root_verifier
from gateway.app.settings import Settings
from gateway.cli.common import (
    CliError,
    ExitCode,
    Json,
    kafka,
    load_settings,
    postgres_dsn,
    print_json,
    print_table,
    read_input,
    run,
    say,
    say_if_cut,
    there,
)
from gateway.database.roles import Role
from gateway.disclosure.rules.proof import problem_of
from gateway.disclosure.rules.verification import SignedRoot, Verification
from gateway.disclosure.signing import RootVerifier, create_key
from gateway.messaging.reader import open_reader
from gateway.views.disclosures import Destruction, DisclosuresView
from schemas.codec import DecodeError, decode
from schemas.disclosure import DisclosureProof, DisclosureRoot
from schemas.envelope import read_envelope
from schemas.events import EventType
from schemas.topics import DISCLOSURE_ROOTS

app = typer.Typer(no_args_is_help=True)

PROOF_BYTES_MAX: Final = 64 * 1024 * 1024

Keys = Annotated[
    Path | None,
    typer.Option(
        "--keys",
        metavar="FOLDER",
        help="Public keys (.jwk) that sign roots; else MYPAY_DISCLOSURE_KEYS_DIR.",
        callback=there,
    ),
]


@app.command()
def key(json_: Json = False) -> None:
    """Make a key that signs roots: the newest signs from the next start of `mypay run disclosure` on.

    Publish the .jwk beside it, and keep those of older keys: roots that they signed are verified with them.
    """
    folder = load_settings().disclosure_keys_dir
    kid = create_key(folder, datetime.now(UTC))
    if json_:
        print_json({"kid": kid, "directory": folder})
        return
    say(f"Key {kid} is in {folder}: {kid}.pem signs, {kid}.jwk is public.")


@app.command()
def verify(
    published: Annotated[
        bool, typer.Option("--published/--stored", help="Compare with the roots on Kafka, or only with those stored.")
    ] = True,
    keys: Keys = None,
    json_: Json = False,
) -> None:
    """Compute the whole log anew, and compare it with its roots. Any change, gap or fork is found, and its place named.

    The exit code is 1 where something is found.
    """
    settings = load_settings()
    verifier = root_verifier(keys or settings.disclosure_keys_dir)
    begun = time.perf_counter()
    verification = run(_verify(settings, verifier, published=published))
    seconds = time.perf_counter() - begun
    if json_:
        findings = [{"place": f.place, "what": f.what} for f in verification.findings]
        print_json({"entries": verification.entries, "seconds": round(seconds, 3), "findings": findings})
    else:
        for finding in verification.findings:
            say(f"{finding.place}: {finding.what}")
        rate = verification.entries / seconds if seconds else 0.0
        say(
            f"{verification.entries:,} entries verified in {seconds:.1f} s ({rate:,.0f}/s): "
            f"{len(verification.findings) or 'nothing'} found."
        )
    if verification.findings:
        raise typer.Exit(ExitCode.FAILED)


async def _verify(settings: Settings, verifier: RootVerifier, *, published: bool) -> Verification:
    roots = await _published(settings, verifier) if published else None
    dsn = postgres_dsn(settings, Role.READONLY)
    async with DisclosuresView.opened(dsn) as view, DisclosuresView.opened(dsn) as beside:
        return await view.verify(verifier, published=roots, beside=[beside])


async def _published(settings: Settings, verifier: RootVerifier) -> Sequence[SignedRoot]:
    """Roots as they are on Kafka."""
    found: list[SignedRoot] = []
    async with open_reader(kafka(settings), DISCLOSURE_ROOTS) as reader:
        async for record in reader.read_all():
            if read_envelope(record.headers).type == EventType.DISCLOSURE_ROOT:
                root = decode(DisclosureRoot, record.value, trusted=True)
                found.append(SignedRoot(root.number, root.statement, verifier.read(root.statement)))
    return found


@app.command()
def destructions(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most, the latest first.")] = 100,
    json_: Json = False,
) -> None:
    """List what was destroyed because its time was over: what kind, how much, by which rule and when."""

    async def read() -> list[Destruction]:
        async with DisclosuresView.opened(postgres_dsn(load_settings(), Role.READONLY)) as view:
            return await view.destructions(limit=limit)

    found = run(read())
    say_if_cut(found, limit)
    if json_:
        print_json([{**asdict(d), "digest": d.digest and d.digest.hex()} for d in found])
        return
    rows = [(d.destroyed_at, d.kind, d.rows, d.rule, d.before, d.login) for d in found]
    print_table("Destroyed", ("when", "what", "how many", "rule", "of before", "login"), rows, right=("how many",))


@app.command("check-proof")
def check_proof(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="As `mypay customer disclosures --proofs` writes it.")],
    keys: Keys = None,
    root: Annotated[
        list[str] | None,
        typer.Option("--root", metavar="ROOT", help="Take a root only if it is this one, or one of these."),
    ] = None,
    json_: Json = False,
) -> None:
    """Check disclosures against the signed roots in the file, with public keys alone: no database is asked.

    Each must be of the customer whose file it is.

    The exit code is 1 unless every one is proven.
    """
    verifier = root_verifier(keys or load_settings().disclosure_keys_dir)
    try:
        proof = decode(DisclosureProof, read_input(file), bytes_max=PROOF_BYTES_MAX)
    except DecodeError as error:
        raise CliError(f"{file} is no file of proofs: {error}.") from None
    read = [content for s in proof.roots if (content := verifier.read(s)) is not None]
    trusted = {r.number: r for r in read if not root or r.root in root}
    told = [(d, problem_of(d, trusted, proof.customer_id)) for d in proof.disclosures]
    if json_:
        print_json([{"seq": d.seq, "reference": d.use.reference, "problem": problem} for d, problem in told])
    else:
        for d, problem in told:
            say(f"entry {d.seq}: {d.use.kind} {d.use.reference}: {problem or 'proven'}")
    if any(problem for _, problem in told):
        raise typer.Exit(ExitCode.FAILED)
