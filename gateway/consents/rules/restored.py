"""After a database was set back in time: what partners had been told of consents, and what it ends here.

Partners' own commands are done again from Kafka. What operators and time did stands in partners' events alone.
"""

from dataclasses import dataclass, field
from typing import Final

from gateway.consents.rules.consent import ConsentCommand
from schemas.consents import ConsentStatus, Purpose
from schemas.events import ConsentEvent

_OVER: Final = frozenset((ConsentStatus.CANC, ConsentStatus.RJCT, ConsentStatus.EXPD))
"""No consent comes back from these, whatever is told of it later."""

_IN_FORCE: Final = frozenset((ConsentStatus.AUTH, ConsentStatus.SUSP))


@dataclass(slots=True)
class ToldConsent:
    """What a partner was told of a consent.

    Attributes:
        is_over: any change ended it as a whole.
        last, ended: the last change before the restore began, and the purposes that any until then ended. What is told
            since counts from an earlier change on, without what operators and time had done.
    """

    is_over: bool = False
    last: ConsentEvent | None = None
    ended: set[Purpose] = field(default_factory=set)

    def add(self, event: ConsentEvent, *, again: bool = False) -> None:
        """In whatever order; ``again``: it was told after the restore began."""
        self.is_over |= event.status in _OVER
        if again:
            return
        if self.last is None or (self.last.change or 0) < (event.change or 0):
            self.last = event
        self.ended |= {e.purpose for e in event.ended}

    def ends(self, here: ConsentStatus) -> list[tuple[ConsentCommand, tuple[Purpose, ...] | None]]:
        """What is done to the consent as it stands here, so that nothing is in force that was told to have ended."""
        if here not in _IN_FORCE:
            return []
        if self.is_over:
            return [(ConsentCommand.REVOKE, None)]
        if self.last is None:
            return []
        if self.last.status is ConsentStatus.SUSP:
            return [] if here is ConsentStatus.SUSP else [(ConsentCommand.SUSPEND, None)]
        return [(ConsentCommand.REVOKE, (p,)) for p in sorted(self.ended - set(self.last.purposes))]
