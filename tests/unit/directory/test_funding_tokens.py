"""Whose a funding token is, at every door: nobody pays with another customer's card, or one that they may not use."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.consents.changing import ConsentCommandRefusedError, change_consent_status
from gateway.consents.rules.consent import ConsentCommand
from gateway.directory.store import Unopened
from schemas.consents import ConsentStatus
from schemas.primitives import FundingToken
from schemas.reasons import ReasonCode
from tests.support.builders import dispatched_record, numbered_order
from tests.support.consents import ConsentRig, digest, document
from tests.support.domain_samples import consent, purpose, terms
from tests.support.messages import PORTABILITY
from tests.support.rig import Rig

TOKEN = FundingToken("token-1")

# fmt: off
NOT_USABLE: dict[str, Callable[[Any], None]] = {
    "missing":            lambda rig: rig.database.tokens.rows.pop(TOKEN),
    "another customer's": lambda rig: rig.database.put_token(TOKEN, "customer-2", "partner-1", "partner-2"),
    "another partner's":  lambda rig: rig.database.put_token(TOKEN, "customer-1", "partner-2"),
    "withdrawn":          lambda rig: rig.database.put_token(TOKEN, "customer-1"),
}
# fmt: on


def _commands(rig: ConsentRig, command: str) -> Any:
    """The record that gives a permission over ``token-1``, with a proof that holds."""
    status = {"grant": "AWAU", "resume": "SUSP", "amend": "AUTH"}.get(command)
    if status:
        rig.database.put_consent(consent(ConsentStatus(status), payment=purpose(funding_token=TOKEN)))
    asked = document(terms(payment=purpose(funding_token=TOKEN, single_use=command == "amend")))
    if command == "request":
        return rig.record(command, terms=asked)
    if command == "amend":
        return rig.record(command, terms=asked, authentication=rig.proof(command, digest(asked)))
    return rig.record(command, authentication=rig.proof(command, rig.digest_in_force()))


@pytest.mark.parametrize("command", ["request", "grant", "resume", "amend"])
async def test_a_permission_over_a_token_is_given_only_by_whose_it_is(command: str) -> None:
    told = []
    for change in NOT_USABLE.values():
        rig = ConsentRig()
        record = _commands(rig, command)
        before = dict(rig.database.consents.rows)
        change(rig)
        await rig.take(record)
        assert rig.database.consents.rows == before
        assert rig.database.used_assertions.rows == {}
        told.append([(e.event_type, e.key, e.event_id, e.body) for e in rig.events()])
    # The very same bytes, whatever is wrong: nobody learns by asking whether a token exists.
    assert told == [told[0]] * len(told)
    [[(kind, _, _, body)]] = {tuple(t) for t in told}
    assert kind == "kr.mypay.consent.refused.v1"
    assert json.loads(body)["reason"]["code"] == "DS0H"

    rig = ConsentRig()
    await rig.take(_commands(rig, command))
    assert [kind for kind, _ in rig.told()] == ["changed"]


async def test_what_takes_a_permission_away_asks_nothing_of_the_token() -> None:
    for command, status in (("suspend", "AUTH"), ("revoke", "AUTH"), ("revoke", "SUSP"), ("reject", "AWAU")):
        rig = ConsentRig()
        rig.database.put_consent(consent(ConsentStatus(status)))
        rig.database.tokens.rows.clear()
        await rig.take(rig.record(command))
        assert [kind for kind, _ in rig.told()] == ["changed"]


async def test_a_batch_asks_for_all_its_tokens_at_once() -> None:
    rig = ConsentRig()
    records = [rig.record("request", consent_id=f"c-{n}", terms=document(terms(consent_id=f"c-{n}"))) for n in range(9)]
    await rig.take(*records)
    assert rig.faults.places.count("directory.usable_tokens") == 1
    assert len(rig.database.consents.rows) == 9


async def test_a_consent_without_payments_needs_no_token() -> None:
    rig = ConsentRig()
    asked = document(terms(payment=None, portability=PORTABILITY))
    await rig.take(rig.record("request", terms=asked))
    assert [kind for kind, _ in rig.told()] == ["changed"]


async def test_an_operator_resumes_no_consent_over_a_token_that_was_withdrawn() -> None:
    rig = ConsentRig()
    rig.database.put_consent(consent(ConsentStatus.SUSP))
    rig.database.put_token(TOKEN, "customer-1")
    key = ("partner-1", "consent-1")
    with pytest.raises(ConsentCommandRefusedError, match="funding token"):
        await change_consent_status(rig.store, rig.clock, key, ConsentCommand.RESUME)  # type: ignore[arg-type]
    await change_consent_status(rig.store, rig.clock, key, ConsentCommand.REVOKE)  # type: ignore[arg-type]
    assert rig.consent().status is ConsentStatus.CANC


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_under_the_lock_a_token_that_is_not_usable_pays_nothing() -> None:
    told = []
    for change in NOT_USABLE.values():
        rig = Rig()
        change(rig)
        await rig.execute([dispatched_record(numbered_order(1))])
        assert (rig.host.received, rig.network.reserved) == ([], 0)
        assert rig.payment(1).funding_token is None
        told.append([(e.event_type, e.body) for e in rig.events()])
        assert rig.observer.counted("execution", "incident") == 0
    assert told == [told[0]] * len(told)
    assert json.loads(told[0][0][1])["reason"]["code"] == "DS0H"


async def test_a_permission_that_is_withdrawn_while_the_order_waits_for_the_lock_pays_nothing(rig: Rig) -> None:
    """As ``mypay token disallow`` does it: withdrawn first, and told once the consent's lock was free."""
    async with rig.store.transaction() as uow:
        await uow.consents.lock([("partner-1", "consent-1")])  # type: ignore[list-item]
        executing = asyncio.create_task(rig.execute([dispatched_record(numbered_order(1))]))
        await rig.until_locked_out()
        rig.database.put_token(TOKEN, "customer-1")
    await executing
    assert rig.payment(1).reason.code is ReasonCode.DS0H  # type: ignore[union-attr]
    assert rig.host.received == []


async def test_a_batch_opens_what_it_may_use_at_once_and_nothing_else(rig: Rig) -> None:
    rig.put_card("token-2", customer="customer-2")
    rig.put_card("token-3", partners=("partner-2",))
    for number in (1, 2, 3):
        rig.database.put_consent(consent(consent_id=f"c-{number}", payment=purpose(funding_token=f"token-{number}")))
    opened: list[str] = []
    open_ = rig.vault.open

    async def noted(tokens: Any) -> Any:
        opened.extend(t.token for t in tokens)
        return await open_(tokens)

    rig.vault.open = noted  # type: ignore[method-assign]
    await rig.execute([dispatched_record(numbered_order(n, consent_id=f"c-{n}"), offset=n) for n in (1, 2, 3)])
    assert rig.states() == {"order-1": "approved", "order-2": "rejected", "order-3": "rejected"}
    assert opened == ["token-1"]
    assert rig.faults.places.count("directory.usable_tokens") == 1


@pytest.mark.parametrize("why", list(Unopened))
async def test_a_token_that_does_not_open_rejects_its_own_orders_and_no_others(rig: Rig, why: Unopened) -> None:
    rig.put_card("token-2")
    rig.database.put_consent(consent(consent_id="second", payment=purpose(funding_token="token-2")))
    rig.vault.damaged[TOKEN] = why
    orders = [numbered_order(1), numbered_order(2, consent_id="second"), numbered_order(3)]
    await rig.execute([dispatched_record(order, offset=n) for n, order in enumerate(orders)])
    assert rig.states() == {"order-1": "rejected", "order-2": "approved", "order-3": "rejected"}
    assert {rig.payment(n).reason.code for n in (1, 3)} == {ReasonCode.MS03}  # type: ignore[union-attr]
    assert rig.told(str(rig.payment(1).payment_id)) == ["payment.rejected"]
    assert rig.observer.counted("execution", "incident") == 2
    assert rig.observer.counts["execution", "card_not_opened", why.value] == 1
    assert [n.fields["payment_id"] for n in rig.observer.notes if n.event == "card_not_opened"] == [
        rig.payment(1).payment_id,
        rig.payment(3).payment_id,
    ]
