"""Where Prometheus finds each process: a file of its ``file_sd_configs``."""

import json
from collections.abc import Mapping


def targets(places: Mapping[str, str]) -> str:
    """The file's text.

    Args:
        places: name of a process (its stage, and the network of execution) → ``host:port`` of its metrics.
    """
    groups = [{"targets": [place], "labels": {"job": "mypay", "process": process}} for process, place in places.items()]
    return json.dumps(groups, indent=1) + "\n"
