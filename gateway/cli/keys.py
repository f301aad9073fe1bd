"""``mypay keys …``: partners' keys, changed without a pause and in an emergency, and the gateway's own rings of keys.

A ring is a folder (:mod:`gateway.app.keys`): one for cards, one for dead letters, one for what stages hand to
each other. Identity providers rotate their own keys, in their key sets; ``mypay auth revoke-key`` stops one of them.
"""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from gateway.app.keys import RINGS, Ring, create_missing_rings, ring_folder
from gateway.app.settings import Settings
from gateway.cli.arguments import PartnerArgument, ValidUntil
from gateway.cli.common import Json, load_settings, print_json, print_table, say
from gateway.cli.master_keys import list_, reseal, retire
from gateway.cli.operating import operated
from gateway.cli.operations import Propose
from gateway.cli.partner import Generate, KeyOut, Kid, disable_key, given_key, read_keys, register_key, say_key
from gateway.cli.public_keys import PublicKey
from gateway.directory.partners import PartnerKey
from gateway.sealing.key_ring import ring_ids
from gateway.sealing.sealing import MasterKeys

app = typer.Typer(no_args_is_help=True)
master = typer.Typer(help="The ring of cards: the newest key seals, all of them open.", no_args_is_help=True)
app.add_typer(master, name="master")


# As `mypay partner key disable`.
app.command("disable")(disable_key)
master.command("reseal")(reseal)
master.command("retire")(retire)
master.command("list")(list_)


@app.command()
@operated("keys rotate", lambda *, partner, **_: partner, reads=given_key)
def rotate(
    partner: PartnerArgument,
    generate: Generate = None,
    key_out: KeyOut = None,
    read: PublicKey | None = None,
    kid: Kid = None,
    valid_until: ValidUntil = None,
    propose: Propose = False,
    json_: Json = False,
) -> None:
    """Register a partner's next key beside its present ones: all are good until the old ones are disabled."""
    key, told, proposed = register_key(partner, generate, key_out, read, kid, valid_until, propose=propose)
    now = datetime.now(UTC)
    before = [k.kid for k in read_keys(partner) if k.kid != key.kid and _is_good(k, now)]
    if json_:
        fields = {"partner_id": partner, "kid": key.kid, "still_valid": before}
        print_json(fields | ({"proposal_id": proposed} if proposed else {}))
        return
    say_key(told, key_out)
    if before:
        say("Still good, until the partner signs with the new key and you disable them:")
    for old in before:
        say(f"  mypay keys disable {partner} {old}")


def _is_good(key: PartnerKey, now: datetime) -> bool:
    return key.disabled_at is None and (key.valid_until is None or now < key.valid_until)


@app.command("create")
def create(
    ring: Annotated[
        Ring | None, typer.Argument(help="The ring that gets a new key; none: whatever has no key yet.")
    ] = None,
    json_: Json = False,
) -> None:
    """Make a key of the gateway's own: it seals or marks from the next start of a process on, older ones still open.

    Older keys must stay for as long as anything that they sealed is there; of the cards `mypay keys master reseal` and
    `retire` see to that, and execution takes a new key up when it meets a card under it. A new internal key goes first
    where execution runs, which reads it when it meets it, then where initiation and schedule run.

    Without a name this also makes what signs: roots of the disclosure log (`mypay audit key` makes the next one) and
    receipts of exports (`mypay portability receipt-key`). No process lacks a key after it.
    """
    settings = load_settings()
    made = create_missing_rings(settings) if ring is None else {ring: MasterKeys.create(ring_folder(settings, ring))}
    told: list[dict[str, Any]] = [
        {"ring": r.value, "what": RINGS[r].what, "key_id": k, "directory": ring_folder(settings, r)}
        for r, k in made.items()
    ]
    told += _missing_signers(settings) if ring is None else []
    if json_:
        print_json([{name: row[name] for name in ("ring", "key_id", "directory")} for row in told])
        return
    for row in told:
        say("Key {key_id} {what} is in {directory}.".format(**row))
    if Ring.CARDS in made:
        say("Back the key for cards up: without it the cards that it seals are lost.")
    if not told:
        say("Nothing lacks a key; name a ring to give it a new one.")


def _missing_signers(settings: Settings) -> list[dict[str, Any]]:
    from gateway.app.disclosure import create_missing_root_key  # noqa: PLC0415 - starts of the others stay quick
    from gateway.app.portability import create_missing_receipt_key  # noqa: PLC0415

    made: list[dict[str, Any]] = []
    if key_id := create_missing_root_key(settings, datetime.now(UTC)):
        what = "to sign roots of the disclosure log with"
        made.append({"ring": "disclosure", "what": what, "key_id": key_id, "directory": settings.disclosure_keys_dir})
    if create_missing_receipt_key(settings):
        file = settings.receipt_key_file
        what = "to sign receipts of exports with"
        made.append({"ring": "receipts", "what": what, "key_id": file.stem, "directory": file.parent})
    return made


@app.command("list")
def list_rings(json_: Json = False) -> None:
    """Show the ids of the gateway's own keys; the keys themselves are never shown."""
    settings = load_settings()
    rows = [
        {"ring": ring, "key_id": key_id, "newest": key_id == ids[-1], "directory": ring_folder(settings, ring)}
        for ring in Ring
        for ids in [ring_ids(ring_folder(settings, ring))]
        for key_id in ids
    ]
    if json_:
        print_json(rows)
    else:
        print_table(
            "Keys",
            ("ring", "id", "newest", "folder"),
            [(r["ring"], r["key_id"], r["newest"], r["directory"]) for r in rows],
        )


@master.command("create")
def create_master(json_: Json = False) -> None:
    """Make a new key for cards: as `mypay keys create cards`."""
    directory = load_settings().master_keys_dir
    key_id = MasterKeys.create(directory)
    if json_:
        print_json({"key_id": key_id, "directory": directory})
    else:
        say(f"Master key {key_id} is in {directory}. Back it up: without it the cards it seals are lost.")
