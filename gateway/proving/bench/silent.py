"""A stage of the gateway that counts, measures and notes nothing: beside it one tells what observability costs.

``python -m gateway.proving.bench.silent STAGE …`` is ``python -m streams STAGE …`` otherwise.
"""

import runpy

from gateway.app import process
from gateway.base.process import SilentObserver
from gateway.observability.observer import StageObserver


class Silent(SilentObserver, StageObserver):  # type: ignore[misc]
    """Takes what a stage registers, and all of its reports, and does nothing with these. It has no traces."""


if __name__ == "__main__":
    vars(process)["StageObserver"] = Silent
    runpy.run_module("streams", run_name="__main__", alter_sys=True)
