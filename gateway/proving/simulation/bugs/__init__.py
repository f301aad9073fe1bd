"""Planted bugs, each of which the invariants must find: the checkers are checked.

Each is one mistake that somebody could make in the real code, planted in this process for as long as it is hunted.
"""

from collections.abc import Mapping
from typing import Final

from gateway.proving.simulation.bugs.consents import CONSENTS
from gateway.proving.simulation.bugs.exporting import EXPORTING
from gateway.proving.simulation.bugs.logging import LOGGING
from gateway.proving.simulation.bugs.loops import LOOPS
from gateway.proving.simulation.bugs.offering import OFFERING
from gateway.proving.simulation.bugs.planting import Mutant
from gateway.proving.simulation.bugs.proofs import PROOFS
from gateway.proving.simulation.bugs.sending import SENDING
from gateway.proving.simulation.bugs.sharing import SHARING
from gateway.proving.simulation.bugs.trusting import TRUSTING

MUTANTS: Final[Mapping[str, Mutant]] = {
    m.name: m for m in (*SENDING, *CONSENTS, *PROOFS, *LOOPS, *TRUSTING, *LOGGING, *SHARING, *EXPORTING, *OFFERING)
}
"""Every planted bug by name."""
