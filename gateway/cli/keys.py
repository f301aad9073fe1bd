"""``mypay keys …``: changing keys without a pause and in an emergency, and the master keys.

Master keys seal the cards behind funding tokens and dead letters that hold a secret. Identity providers rotate their
own keys, in their key sets; ``mypay auth revoke-key`` stops one of them.
"""

from datetime import UTC, datetime

import typer

from gateway.adapters.crypto.vault import MasterKeys
from gateway.cli.arguments import PartnerArgument
from gateway.cli.common import Json, load_settings, print_json, print_table, say
from gateway.cli.operating import operated
from gateway.cli.operations import Propose
from gateway.cli.partner import Generate, Jwk, KeyOut, Kid, disable_key, read_keys, register_key, say_key
from gateway.ports import PartnerKey

app = typer.Typer(
    help="Rotate and disable partners' keys; master keys that seal cards. A provider's key: `mypay auth revoke-key`.",
    no_args_is_help=True,
)
master = typer.Typer(help="Master keys: the newest seals, all of them open.", no_args_is_help=True)
app.add_typer(master, name="master")


# As `mypay partner key disable`.
app.command("disable")(disable_key)


@app.command()
@operated("keys rotate", lambda *, partner, **_: partner)
def rotate(
    partner: PartnerArgument,
    generate: Generate = None,
    key_out: KeyOut = None,
    jwk: Jwk = None,
    kid: Kid = None,
    propose: Propose = False,
    json_: Json = False,
) -> None:
    """Register a partner's next key beside its present ones: all are good until the old ones are disabled."""
    key, told, proposed = register_key(partner, generate, key_out, jwk, kid, propose=propose)
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


@master.command()
def create(json_: Json = False) -> None:
    """Make a new master key file (mode 0600) in MYPAY_MASTER_KEYS_DIR. Processes take it up when they restart.

    Older keys must stay for as long as anything that they sealed is there.
    """
    directory = load_settings().master_keys_dir
    key_id = MasterKeys.create(directory)
    if json_:
        print_json({"key_id": key_id, "directory": directory})
    else:
        say(f"Master key {key_id} is in {directory}. Back it up: without it the cards it seals are lost.")


@master.command("list")
def list_(json_: Json = False) -> None:
    """Show the ids of the master keys; the keys themselves are never shown."""
    # From the files' names alone: nothing here needs the keys.
    ids = sorted(path.stem for path in load_settings().master_keys_dir.glob("*.key"))
    rows = [{"key_id": key_id, "seals": key_id == ids[-1]} for key_id in ids]
    if json_:
        print_json(rows)
    else:
        print_table("Master keys", ("id", "seals"), [(r["key_id"], r["seals"]) for r in rows])
