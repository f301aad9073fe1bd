"""What a stage's process reads before it can work."""

import subprocess
import sys

import pytest

from streams.__main__ import STAGES, run_of


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_something_to_do(stage: str) -> None:
    assert callable(run_of(stage))


def test_whoever_does_not_run_on_faust_does_not_wait_for_it() -> None:
    others = [stage for stage in STAGES if stage not in ("initiation", "consents")]
    looked = (
        "import sys\n"
        "from streams.__main__ import run_of\n"
        f"for stage in {others!r}: run_of(stage)\n"
        "print(sorted(m for m in sys.modules if m == 'faust'))\n"
    )
    done = subprocess.run([sys.executable, "-c", looked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
