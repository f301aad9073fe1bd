"""What people do about breaks, and of which record as it stands."""

from dataclasses import dataclass
from enum import StrEnum, unique

from schemas.clearing import RECORD_NO_MAX


@unique
class Resolution(StrEnum):
    """What was done about a break. It books nothing here: the money is where people say."""

    SETTLED_ELSEWHERE = "settled_elsewhere"  # it was moved by hand, outside the gateway
    DISPUTED = "disputed"  # the network was told, and answers in its own time
    WRITTEN_OFF = "written_off"  # somebody bears the difference


@dataclass(frozen=True, slots=True)
class RecordPlace:
    """Where a clearing record stands: its network's cycle, and its number in it."""

    network_id: str
    cycle_id: str
    record_no: int

    def __str__(self) -> str:
        return f"{self.network_id}/{self.cycle_id}/{self.record_no}"

    @classmethod
    def parse(cls, text: str) -> "RecordPlace":
        """Read ``NETWORK/CYCLE/RECORD``.

        Raises:
            ValueError: it is none.
        """
        network, _, rest = text.partition("/")
        cycle, _, number = rest.rpartition("/")
        is_number = number.isascii() and number.isdigit() and len(number) <= len(str(RECORD_NO_MAX))
        if not (network and cycle and is_number and int(number) <= RECORD_NO_MAX and text.isprintable()):
            raise ValueError(f"{text!r} is no record: NETWORK/CYCLE/RECORD")
        return cls(network, cycle, int(number))


@dataclass(frozen=True, slots=True)
class OpenBreak:
    """A break as it stands. ``version``: how often its network told the record; a correction is another one."""

    version: int
    break_kind: str
