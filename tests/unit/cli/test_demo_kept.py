"""A demo that is left running says where everything is."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway.cli.demo import _look_around
from gateway.proving.keeping import Kept
from gateway.proving.traffic.cast import Cast
from gateway.proving.world.world import World, WorldPlan


def test_it_tells_where_metrics_are_and_what_to_look_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = World(
        WorldPlan("demo", tmp_path),
        "demo",
        tmp_path,
        Cast((), ()),
        kafka_bootstrap_servers="127.0.0.1:9092",
        postgres_dsn="postgresql://postgres:hidden@127.0.0.1:5432/mypay_demo",
        http={"execution bcard": "http://127.0.0.1:40001", "sharing": "http://127.0.0.1:40002"},
    )
    kept = Kept("http://127.0.0.1:8088", tmp_path / "console-password", tmp_path / "targets.json")
    result = SimpleNamespace(example=("bank", "payment-1"), left=("bank", "c-9"), kept=kept)
    _look_around(world, result)  # type: ignore[arg-type]
    told = capsys.readouterr().out
    for words in (
        "http://127.0.0.1:40002/metrics",
        "mypay consent uses c-9 --partner bank",
        "mypay trace payment-1",
        "mypay audit verify",
        f"MYPAY_SHARING_KEYS_DIR={world.keys / 'sharing'}",
        "mypay demo --stop",
        "http://127.0.0.1:8088\n",
        f"sign in as demo; the password: cat {kept.password}",
        f"file_sd_configs in {kept.targets}",
    ):
        assert words in told
    assert "hidden" not in told
