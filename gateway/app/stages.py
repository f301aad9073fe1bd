"""Every process of the gateway, as what deploys it needs to know it: the table that files of deploy/ are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.app.keys import RINGS, RINGS_OF
from schemas.principals import Principal, Role
from schemas.topics import TOPICS, Topic


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One kind of process.

    Attributes:
        name: as ``mypay run`` calls it.
        what: what it does, for people.
        per_network: one for each card network.
        leads: of several one works, and the others stand by for it.
        secrets: settings of the folders or files with keys that it needs, and no other stage's.
    """

    name: str
    what: str
    per_network: bool = False
    leads: bool = False
    secrets: tuple[str, ...] = ()

    @property
    def role(self) -> Role:
        """Who it is to Kafka; the database's role has the same name."""
        return Role(self.name.replace("-", "_"))

    @property
    def group(self) -> str:
        """Its consumer group: the principal's own name, of execution without the network's."""
        return f"mypay-{self.name}"

    def principal(self, network: str = "") -> str:
        """Its name to the brokers."""
        return Principal(self.role, network if self.per_network else "").name

    def topics(self) -> Sequence[Topic]:
        """What it reads; a name can have ``{network}`` in it."""
        return [t for t in TOPICS if self.role in t.readers]

    def folders(self) -> Mapping[str, str]:
        """Setting → name of the folder of its keys, for all that it needs."""
        rings = {RINGS[ring].setting: ring.value for ring in RINGS_OF.get(self.role.value, ())}
        return rings | {name: _FOLDERS[name] for name in self.secrets}


_FOLDERS: Final[Mapping[str, str]] = {
    "disclosure_keys_dir": "disclosure",
    "receipt_key_file": "receipts/receipt.pem",
    "clearing_keys_dir": "clearing",
}

STAGES: Final[tuple[Stage, ...]] = (
    Stage(name="initiation", what="takes in partners' orders"),
    Stage(name="consents", what="takes in partners' commands on consents"),
    Stage(
        name="execution",
        what="sends one card network's payments, and settles those without an answer",
        per_network=True,
    ),
    Stage(name="relay", what="brings events from the database to Kafka", leads=True),
    Stage(name="settlement", what="settles what networks cleared", secrets=("clearing_keys_dir",)),
    Stage(name="schedule", what="does what is due"),
    Stage(name="disclosure", what="writes the disclosure log", leads=True, secrets=("disclosure_keys_dir",)),
    Stage(name="portability", what="hands customers' data to recipients", secrets=("receipt_key_file",)),
    Stage(name="portability-api", what="answers recipients that ask for customers' data"),
    Stage(name="sharing", what="shares settled payments with affiliates"),
    Stage(name="marketing", what="makes offers of joint marketing"),
)
"""In the order in which they are told."""

METRICS_PORT: Final = 9100
"""``MYPAY_HTTP_PORT`` of a process that has an address of its own."""
