"""The rings of keys, one a purpose: which process needs which, and what to do where one is missing.

=========== ======================================================= =================================================
ring        what for                                                who holds it
=========== ======================================================= =================================================
cards       sealing the cards behind funding tokens                 execution, ``mypay token add``
dead-letter sealing and marking dead letters                        every stage that writes one, the console,
                                                                    ``mypay dead-letter``
internal    marking what initiation and schedule hand to execution  initiation, schedule, execution
sharing     naming customers for affiliates                         sharing, marketing
=========== ======================================================= =================================================

Initiation, consents and settlement parse strangers' bytes: they never hold the ring that opens cards.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from pathlib import Path
from typing import Final

from gateway.app.errors import NotConfiguredError
from gateway.app.settings import Settings
from gateway.payments.dispatch import Dispatch
from gateway.sealing.files import SecretFileError
from gateway.sealing.mac import HmacMarks
from gateway.sealing.sealing import MasterKeys, Purpose


@unique
class Ring(StrEnum):
    """A ring of keys, as ``mypay keys create`` calls it."""

    CARDS = "cards"
    DEAD_LETTER = "dead-letter"
    INTERNAL = "internal"
    SHARING = "sharing"


@dataclass(frozen=True, slots=True)
class RingUse:
    """What a ring is for.

    Attributes:
        setting: the name of the setting with its folder.
        what: completes "no key …".
    """

    setting: str
    what: str

    @property
    def variable(self) -> str:
        """The environment variable of the setting."""
        return f"MYPAY_{self.setting.upper()}"


RINGS: Final[Mapping[Ring, RingUse]] = {
    Ring.CARDS: RingUse("master_keys_dir", "to seal cards with"),
    Ring.DEAD_LETTER: RingUse("dead_letter_keys_dir", "to seal and mark dead letters with"),
    Ring.INTERNAL: RingUse("internal_keys_dir", "to mark with what stages hand to each other"),
    Ring.SHARING: RingUse("sharing_keys_dir", "to name customers for affiliates with"),
}


RINGS_OF: Final[Mapping[str, tuple[Ring, ...]]] = {
    "initiation": (Ring.DEAD_LETTER, Ring.INTERNAL),
    "consents": (Ring.DEAD_LETTER,),
    "execution": (Ring.CARDS, Ring.DEAD_LETTER, Ring.INTERNAL),
    "settlement": (Ring.DEAD_LETTER,),
    "schedule": (Ring.INTERNAL,),
    "portability": (Ring.DEAD_LETTER,),
    "sharing": (Ring.DEAD_LETTER, Ring.SHARING),
    "marketing": (Ring.DEAD_LETTER, Ring.SHARING),
    "console": (Ring.DEAD_LETTER,),
}
"""What each stage and the console need, and is all that they read."""


def ring_folder(settings: Settings, ring: Ring) -> Path:
    """Where a ring's keys are."""
    folder: Path = getattr(settings, RINGS[ring].setting)
    return folder


def load_ring(settings: Settings, ring: Ring) -> MasterKeys:
    """Read a ring.

    Raises:
        NotConfiguredError: it is empty, or cannot be used; the text says what to do.
    """
    folder, use = ring_folder(settings, ring), RINGS[ring]
    try:
        keys = MasterKeys.load(folder)
    except SecretFileError as error:
        raise NotConfiguredError(f"{use.variable}: {error}") from None
    if not len(keys):
        raise NotConfiguredError(
            f"there is no key {use.what} in {folder} ({use.variable}): make one with `mypay keys create {ring}`, "
            "or put back what was there"
        )
    return keys


def create_missing_rings(settings: Settings, *, within: Path | None = None) -> dict[Ring, str]:
    """Make a key in every ring that has none; return the new ones' ids.

    Rings whose folders are not ``within`` the one given are left alone.

    Raises:
        SecretFileError: a folder cannot be used.
    """
    folders = {ring: ring_folder(settings, ring) for ring in Ring}
    return {
        ring: MasterKeys.create(folder)
        for ring, folder in folders.items()
        if (within is None or folder.resolve().is_relative_to(within.resolve())) and not len(MasterKeys.load(folder))
    }


def dispatch(settings: Settings) -> Dispatch:
    """What marks dispatched records and knows them again; raises as :func:`load_ring`."""
    return Dispatch(internal_marks(settings, Purpose.DISPATCH_MARK))


def internal_marks(settings: Settings, purpose: Purpose) -> HmacMarks:
    """Marks under the internal key; raises as :func:`load_ring`."""
    keys = load_ring(settings, Ring.INTERNAL)
    folder = ring_folder(settings, Ring.INTERNAL)
    return HmacMarks(keys, purpose, reload=lambda: MasterKeys.load(folder))
