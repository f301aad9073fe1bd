"""What deploys the console needs to know of it, beside what :mod:`gateway.app.stages` tells of stages."""

from collections.abc import Mapping
from typing import Final

from gateway.app.keys import RINGS, RINGS_OF
from gateway.cli.common import OPS
from gateway.database.roles import Role

CONSOLE_COMMAND: Final = ("console", "serve")

CONSOLE_ROLES: Final = (Role.CONSOLE, Role.READONLY, Role.OPERATOR)
"""Whom it is to PostgreSQL: who is signed in, what is shown, what is done."""

CONSOLE_PRINCIPAL: Final = OPS
"""Whom it is to Kafka, from which it reads dead letters."""

CONSOLE_USERS: Final = (CONSOLE_PRINCIPAL, *(role.user for role in CONSOLE_ROLES))
"""It has certificates of these, and of no others."""

CONSOLE_FOLDERS: Final[Mapping[str, str]] = {RINGS[ring].variable: ring.value for ring in RINGS_OF["console"]}
"""Setting → folder of the keys that it needs."""
