"""Bugs in what affiliates are given."""

from contextlib import AbstractContextManager
from typing import Final

from gateway.identity.door import Door
from gateway.proving.memory.sharing import MemorySharingStore
from gateway.proving.simulation.bugs.planting import Mutant, edited, together
from gateway.sharing.confirming import ErasureService
from gateway.sharing.pseudonyms import Pseudonyms
from gateway.sharing.rules import deciding
from gateway.sharing.service import SharingService


def _after_the_end() -> AbstractContextManager[None]:
    refusal = " or refuse_use(consent, Purpose.SHARING, now) is not None"
    return together(
        edited(deciding, "_given", (refusal, " or now >= end_of(consent.terms, Purpose.SHARING)")),
        edited(MemorySharingStore, "_settled", (" or Purpose.SHARING in consent.ended", "")),
    )


def _beyond_scope() -> AbstractContextManager[None]:
    return edited(deciding, "allowed_fields", ("POLICY[use] & frozenset(consented)", "POLICY[use]"))


def _one_name_for_all() -> AbstractContextManager[None]:
    # Where names are made, not where keys are: worlds of one process share the keys that were derived once.
    return edited(Pseudonyms, "name", ("self._under(affiliate_id, ", 'self._under("", '))


def _forgotten() -> AbstractContextManager[None]:
    return edited(SharingService, "_share_once", ("await self._tell_erasures(uow, page.changed, consents)", "0"))


def _anothers_word() -> AbstractContextManager[None]:
    return edited(ErasureService, "_confirm", (" or holder.affiliate_id != message.affiliate_id", ""))


def _word_dropped() -> AbstractContextManager[None]:
    return edited(ErasureService, "_confirm", ("elif holder.confirmed_at is None:", "elif False:"))


def _strangers_believed() -> AbstractContextManager[None]:
    return edited(Door, "_open", ("if message.partner_id != signed.partner_id:", "if False:"))


SHARING: Final = (
    Mutant(
        "shared-after-end",
        "payments are shared until their time is over, whatever became of the consent",
        _after_the_end,
    ),
    Mutant("shared-beyond-scope", "a use's fields leave, whether the customer agreed to them or not", _beyond_scope),
    Mutant("one-name-for-all-affiliates", "two affiliates know a customer by one name", _one_name_for_all),
    Mutant("erase-notice-forgotten", "nobody is told to erase what has ended", _forgotten),
    Mutant("erasure-of-another", "an affiliate confirms that another has erased", _anothers_word),
    Mutant("erasure-dropped", "confirmations are read, and not kept", _word_dropped),
    Mutant("signer-unchecked", "whoever has a key speaks for everybody", _strangers_believed),
)
