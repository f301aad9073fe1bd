"""A demo that is left running says where everything is, and gives commands a file with its addresses."""

import os
import stat
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway.app.environment import unknown_settings
from gateway.cli.demo import _look_around
from gateway.database.roles import RUNNING
from gateway.proving.keeping import Kept, tell_settings
from gateway.proving.traffic.cast import Cast
from gateway.proving.world.world import World, WorldPlan


def world_in(home: Path) -> World:
    directory = home / "demo's.run"
    directory.mkdir()
    return World(
        WorldPlan("demo", home, with_proofs=True),
        "demo",
        directory,
        Cast((), ()),
        kafka_bootstrap_servers="127.0.0.1:9092",
        postgres_dsn="postgresql://postgres:hidden@127.0.0.1:5432/mypay_demo",
        has_roles=True,
        http={"execution bcard": "http://127.0.0.1:40001", "sharing": "http://127.0.0.1:40002"},
    )


def test_it_tells_where_metrics_are_and_what_to_look_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world, settings = world_in(tmp_path), tmp_path / "a folder" / "settings.sh"
    kept = Kept("http://127.0.0.1:8088", tmp_path / "console-password", tmp_path / "targets.json", settings)
    result = SimpleNamespace(example=("bank", "payment-1"), left=("bank", "c-9"), kept=kept)
    _look_around(world, result)  # type: ignore[arg-type]
    told = capsys.readouterr().out
    for words in (
        "http://127.0.0.1:40002/metrics",
        f"  . '{settings}'\n",
        "  mypay doctor\n",
        "mypay consent uses c-9 --partner bank",
        "mypay trace payment-1",
        "mypay audit verify",
        "mypay demo --stop",
        "http://127.0.0.1:8088\n",
        f"sign in as demo; the password: cat {kept.password}",
        f"file_sd_configs in {kept.targets}",
    ):
        assert words in told
    assert "hidden" not in told


def test_a_shell_that_read_the_settings_reaches_the_demo_as_every_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MYPAY_DEMO_KEEP", "1")
    world = world_in(tmp_path)
    file = tell_settings(world)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600, "a given database's address has its password"
    read = subprocess.run(
        ["/bin/sh", "-c", '. "$0" && exec env', file],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.defpath},
    )
    told = dict(line.split("=", 1) for line in read.stdout.splitlines() if line.startswith("MYPAY_"))
    assert unknown_settings(told) == []
    for role in RUNNING:
        assert told[f"MYPAY_POSTGRES_DSN_{role.value.upper()}"] == world.dsn_of(role)
        assert f"//{role.user}" in world.dsn_of(role)
    assert told["MYPAY_POSTGRES_DSN_OWNER"] == world.postgres_dsn
    assert told["MYPAY_ISSUERS_DIR"] == str(world.issuers)
    # What stops it finds it from this shell, too; and the next demo is kept only if it is asked for.
    assert (told["MYPAY_HOME"], told["MYPAY_STACK"]) == (str(tmp_path), "demo")
    assert "MYPAY_DEMO_KEEP" not in told
