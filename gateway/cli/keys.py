"""``mypay keys …``: master keys, which seal the cards behind funding tokens and dead letters that hold a secret."""

import typer

from gateway.adapters.crypto.vault import MasterKeys
from gateway.cli.common import Json, load_settings, print_json, print_table, say

app = typer.Typer(help="Master keys that seal cards.", no_args_is_help=True)
master = typer.Typer(help="Master keys: the newest seals, all of them open.", no_args_is_help=True)
app.add_typer(master, name="master")


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
