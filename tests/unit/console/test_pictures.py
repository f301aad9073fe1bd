"""The console's guide: its pictures are there, and are small; none lies there that it does not show."""

import re
from pathlib import Path

DEPLOY = Path(__file__).parents[3] / "deploy"
BYTES_MAX = 200_000


def test_the_guide_shows_each_picture_that_is_there_and_none_is_large() -> None:
    shown = re.findall(r"!\[[^\]]+\]\((console-[a-z-]+\.png)\)", (DEPLOY / "CONSOLE.md").read_text())
    assert sorted(shown) == sorted(p.name for p in DEPLOY.glob("console-*.png"))
    assert len(shown) == len(set(shown)) > 3
    assert {p.name: p.stat().st_size for p in DEPLOY.glob("console-*.png") if p.stat().st_size > BYTES_MAX} == {}
