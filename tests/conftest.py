import os

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.support.stack"]

# How long an example takes, or is looked for, says how busy the machine is; and the same code is tried with the same
# examples: what is found tells of a change, not of a day. `--hypothesis-profile exploring` looks further.
settings.register_profile("exploring", deadline=None, derandomize=False, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("exploring"), derandomize=True, database=None)
settings.load_profile("same")

# xdist tells its workers the size of a terminal that they do not have.
if "PYTEST_XDIST_WORKER" in os.environ:
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)
