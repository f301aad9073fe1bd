"""What judging a batch of orders reads, and how long it waits for that."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from gateway.identity.assurance import Assertion
from gateway.identity.no_providers import NoIdentityProviders
from gateway.orders.judging import OrderJudge
from gateway.payments.rules.purchase import ReceivedOrder
from tests.support.domain_samples import NOW, order

QUESTIONS = ("payments.find", "consents.read", "directory.merchants", "authentication.links")


class Answering:
    """A store that answers no question before all of them were asked."""

    def __init__(self, questions: Sequence[str]) -> None:
        self.asked: list[str] = []
        self._all = asyncio.Barrier(len(questions))
        self._unit: Any = SimpleNamespace()
        for question in questions:
            room, name = question.split(".")
            setattr(self._unit, room, SimpleNamespace(**{name: self._answering(question)}))

    def _answering(self, question: str) -> Any:
        async def answer(_: Any) -> Any:
            self.asked.append(question)
            await self._all.wait()
            return {question: question}

        return answer

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Any]:
        yield self._unit


def received(assertion: Assertion | None) -> ReceivedOrder:
    return ReceivedOrder(order(), b"", NOW, "mypay.orders/0/1", assertion=assertion)


def proof() -> Assertion:
    return Assertion("https://idp", "somebody", (), NOW, None, NOW, NOW, "jti-1", "level", (), order())


async def test_nothing_that_is_read_of_a_batch_waits_for_anything_else() -> None:
    store: Any = Answering(QUESTIONS)
    judge = OrderJudge(trust=NoIdentityProviders(), networks=list)
    async with asyncio.timeout(60):
        seen = await judge.look(store, [received(proof())])
    assert sorted(store.asked) == sorted(QUESTIONS)
    told: list[Any] = [seen.existing, seen.consents, seen.merchants, seen.links]
    assert told == [{question: question} for question in QUESTIONS]


async def test_without_proofs_nobodys_links_are_asked_for() -> None:
    store: Any = Answering(QUESTIONS[:3])
    judge = OrderJudge(trust=NoIdentityProviders(), networks=list)
    async with asyncio.timeout(60):
        seen = await judge.look(store, [received(None)])
    assert sorted(store.asked) == sorted(QUESTIONS[:3])
    assert seen.links == {}
