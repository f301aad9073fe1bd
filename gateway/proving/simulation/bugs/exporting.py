"""Bugs in what recipients are handed."""

from contextlib import AbstractContextManager
from typing import Final

from gateway.portability import exporting
from gateway.portability.exporting import ExportService
from gateway.portability.rules import requests, rows
from gateway.proving.memory import portability as memory
from gateway.proving.simulation.bugs.planting import Mutant, edited


def _after_the_end() -> AbstractContextManager[None]:
    return edited(ExportService, "_refuse", ("refused = refuse_export(", "refused = (lambda *_: None)("))


def _uncounted() -> AbstractContextManager[None]:
    return edited(ExportService, "_check", ("+ (refused is None)", "+ 0"))


def _void_untold() -> AbstractContextManager[None]:
    return edited(ExportService, "_claim", ("claimed[0].attempt > 1", "claimed[0].attempt > 1_000"))


def _names_told() -> AbstractContextManager[None]:
    return edited(rows, "approval_row", ("if extract.with_merchant and payment.merchant_name", "if True"))


def _beyond_scope() -> AbstractContextManager[None]:
    return edited(requests, "_refuse_beyond", ("not set(request.scopes) <= set(purpose.scopes)", "False"))


def _foreign_recipient() -> AbstractContextManager[None]:
    return edited(requests, "_refuse_beyond", ("request.rcv_org_code not in purpose.recipients", "False"))


def _everybodys() -> AbstractContextManager[None]:
    return edited(memory, "facts_of", (" and c.terms.customer_id == customer_id", ""))


def _tells_twice() -> AbstractContextManager[None]:
    return edited(exporting, "void_events", ("if export.sent_chunks:", "if True:"))


EXPORTING: Final = tuple(
    Mutant(name, breaks, plant, of_data=True)
    for name, breaks, plant in (
        ("exported-after-end", "an export goes on, whatever has become of its consent", _after_the_end),
        ("chunk-uncounted", "a chunk is counted once the next one leaves", _uncounted),
        ("void-untold", "nobody hears of an attempt that died", _void_untold),
        ("export-tells-names", "merchants' names leave, whether the customer agreed or not", _names_told),
        ("export-beyond-scope", "a request may ask for more than the consent permits", _beyond_scope),
        ("export-to-anybody", "a request may name a recipient that the consent does not", _foreign_recipient),
        ("export-of-everybody", "an export tells all customers' payments", _everybodys),
        ("abandoned-without-chunks", "an attempt is told as a use of which nothing can have left", _tells_twice),
    )
)
