"""Commands, orders, results, time and revocations in any order, against an oracle that shares no rule with the gateway.

Everything goes through the stages' own services, on fakes. The oracle keeps a list of payments and sums it again for
every question; a payment counts in the limits that its consent had when it was made.
"""

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from gateway.consents.changing import (
    ConsentCommandRefusedError,
    ConsentUnknownError,
    change_consent_status,
)
from gateway.consents.rules.consent import ConsentCommand
from gateway.consents.rules.limits import Usage
from gateway.network.exchange import (
    Answered,
    ExchangeResult,
    FinancialRequest,
    NetworkRequest,
    NotSent,
    NotSentCause,
    Unanswered,
    UnansweredCause,
)
from gateway.payments.rules.lifecycle import PaymentEventKind
from gateway.payments.rules.payment import Change, Payment
from gateway.payments.transitions import apply_changes
from gateway.proving.memory.network import MemoryCardNetwork
from schemas.consents import Alignment, ConsentTerms, Payees, PaymentPurpose, Period, PeriodLimit
from schemas.primitives import NUMERIC_CODES, MerchantId, Money
from schemas.reasons import Reason
from tests.properties.test_limits_oracle import CURRENCIES, STARTS, period_around, share_of
from tests.support.builders import dispatched_record, numbered_order
from tests.support.consents import ConsentRig, digest, document
from tests.support.domain_samples import terms
from tests.support.rig import Rig

# ---------------------------------------------------------------- the oracle

# (status, command) → status; what is not here is refused, unless the consent is as the command wants it.
MOVES = {
    ("AWAU", "grant"): "AUTH",
    ("AWAU", "reject"): "RJCT",
    ("AWAU", "revoke"): "CANC",
    ("AUTH", "suspend"): "SUSP",
    ("AUTH", "revoke"): "CANC",
    ("AUTH", "amend"): "AUTH",
    ("SUSP", "resume"): "AUTH",
    ("SUSP", "revoke"): "CANC",
    ("SUSP", "amend"): "SUSP",
}
WANTED = {"grant": "AUTH", "reject": "RJCT", "suspend": "SUSP", "resume": "AUTH", "revoke": "CANC"}
NEED_PROOF = {"grant", "resume", "amend"}
LIVE = ("AWAU", "AUTH", "SUSP")


@dataclass
class Paid:
    at: datetime
    minor: int
    currency: str
    limits: frozenset[str]
    state: str = "in flight"


@dataclass
class Cap:
    name: str
    most: int
    currency: str | None
    inside: list[Paid]

    @property
    def used(self) -> int:
        return sum(p.minor if self.currency else 1 for p in self.inside)


@dataclass
class Oracle:
    """What should be, of one consent."""

    status: str = ""
    terms: ConsentTerms | None = None
    version: int = 1
    changes: int = 0
    paid: dict[str, Paid] = field(default_factory=dict)

    def let_time_end_it(self, now: datetime) -> None:
        if self.status in LIVE and self.terms and now >= self.terms.valid_until:
            self.status = "EXPD"
            self.changes += 1

    def caps_at(self, at: datetime) -> list[Cap]:
        assert self.terms is not None
        rules = self.terms.payment
        assert rules is not None
        start = self.terms.valid_from
        standing = [p for p in self.paid.values() if p.state != "undone"]
        caps = []
        if rules.single_use:
            caps.append(Cap("single-use", 1, None, standing))
        if rules.lifetime_count:
            caps.append(Cap("lifetime/count", rules.lifetime_count, None, standing))
        caps.extend(Cap(f"lifetime/{m.currency}", plain(m), m.currency, standing) for m in rules.lifetime_amounts)
        for limit in rules.period_limits:
            period, alignment = limit.period.value, limit.alignment.value
            begin, end = period_around(period, alignment, start, at)
            share = share_of(period, alignment, start, begin, end)
            now = [p for p in standing if begin <= p.at < end]
            money_cap = limit.max_amount
            if money_cap is not None:
                name = f"{period}/{alignment}/{money_cap.currency}"
                caps.append(Cap(name, int(plain(money_cap) * share), money_cap.currency, now))
            else:
                assert limit.max_count is not None
                caps.append(Cap(f"{period}/{alignment}/count", int(limit.max_count * share) or 1, None, now))
        for cap in caps:
            cap.inside = [
                p for p in cap.inside if cap.name in p.limits and (cap.currency is None or p.currency == cap.currency)
            ]
        return caps

    def stops(self, at: datetime, minor: int, currency: str, merchant: str) -> tuple[str, Cap | None] | None:
        """The reason's code, and the limit if it is one."""
        by_status = {"": "MD01", "AWAU": "MD01", "RJCT": "MD01", "CANC": "MD01", "SUSP": "TKSP", "EXPD": "TKXP"}
        if self.status != "AUTH":
            return by_status[self.status], None
        assert self.terms is not None
        rules = self.terms.payment
        assert rules is not None
        most = {m.currency: plain(m) for m in rules.max_per_payment}
        checks: list[tuple[bool, str]] = [
            (at < self.terms.valid_from, "DT01"),
            (at >= self.terms.valid_until, "TKXP"),
            (merchant in rules.payees.block_merchants, "SL12"),
            (bool(rules.payees.allow_merchants) and merchant not in rules.payees.allow_merchants, "SL11"),
            (currency not in most, "AM03"),
            (minor > most.get(currency, 0), "TKVE"),
        ]
        for stopped, code in checks:
            if stopped:
                return code, None
        for cap in self.caps_at(at):
            if cap.currency in (None, currency) and cap.used + (minor if cap.currency else 1) > cap.most:
                codes = {"single-use": "TKSG", "lifetime": "TKVE"}
                return codes.get(cap.name.split("/")[0], "SL14" if cap.currency else "SL13"), cap
        return None

    def pay(self, order_id: str, at: datetime, minor: int, currency: str) -> None:
        names = frozenset(c.name for c in self.caps_at(at) if c.currency in (None, currency))
        self.paid[order_id] = Paid(at, minor, currency, names)


def plain(money: Money) -> int:
    return int(money.value.replace(".", ""))


# ---------------------------------------------------------------- what is drawn

MONIES = st.builds(Money.of, st.integers(40, 1500), CURRENCIES)
LIMITS = st.builds(
    lambda period, alignment, money, count: PeriodLimit(
        period=period, alignment=alignment, max_amount=None if count else money, max_count=count
    ),
    st.sampled_from(Period),
    st.sampled_from(Alignment),
    MONIES,
    st.none() | st.integers(1, 25),
)
PURPOSES = st.builds(
    PaymentPurpose,
    funding_token=st.just("token-1"),
    max_per_payment=st.lists(
        st.builds(Money.of, st.sampled_from([55, 10**6, 10**6]), CURRENCIES), min_size=1, unique_by=lambda m: m.currency
    ).map(tuple),
    payees=st.sampled_from(
        [Payees()] * 8
        + [Payees(block_merchants=(MerchantId("merchant-2"),)), Payees(allow_merchants=(MerchantId("merchant-1"),))]
    ),
    period_limits=st.lists(LIMITS, max_size=3, unique_by=lambda limit: limit.key).map(tuple),
    lifetime_amounts=st.lists(MONIES, max_size=1).map(tuple),
    lifetime_count=st.none() | st.integers(1, 20),
    single_use=st.sampled_from([False] * 9 + [True]),
)
LENGTHS = st.sampled_from([timedelta(hours=1), timedelta(days=45), timedelta(days=4000), timedelta(days=4000)])
STEPS = st.sampled_from(
    [timedelta(seconds=1)] * 4
    + [timedelta(minutes=30), timedelta(hours=9), timedelta(days=1), timedelta(days=6), timedelta(days=31)]
)
BUYS = st.tuples(st.integers(1, 60), CURRENCIES, st.sampled_from(["merchant-1"] * 9 + ["merchant-2"]))
# Two places, in each a consent until it has ended, then its successor.
PLACES = st.sampled_from([0, 0, 1])
COMMANDS = st.sampled_from(["grant"] * 4 + ["resume"] * 10 + ["suspend"] * 3 + ["revoke", "reject"])


class HeldNetwork(MemoryCardNetwork):
    """A network that answers when it is told to; reversals are confirmed at once."""

    def __init__(self, rig: Rig) -> None:
        super().__init__(rig.network.network_id, rig.host)
        self.held: dict[str, Callable[[ExchangeResult], None]] = {}
        self.requests: dict[str, FinancialRequest] = {}

    def submit(self, request: NetworkRequest, *, send_before: float, done: Callable[[ExchangeResult], None]) -> None:
        if isinstance(request, FinancialRequest):
            self.release(1)
            self.held[request.trace.rrn] = done
            self.requests[request.trace.rrn] = request
        else:
            super().submit(request, send_before=send_before, done=done)

    def answer(self, rrn: str, code: str) -> None:
        request = self.requests[rrn]
        currency = NUMERIC_CODES[request.currency]
        approval = "A1" if code == "00" else None
        self.held.pop(rrn)(Answered(code, approval, request.amount_minor, currency, rrn))


class Machine(RuleBasedStateMachine):
    """Two consents of one customer."""

    in_flight: Bundle[str] = Bundle("in_flight")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.runner.run(self._set_up())
        self.oracles: dict[str, Oracle] = {}
        self.names = ["consent-0", "consent-1"]
        self.consent_of: dict[str, str] = {}
        self.orders = 0

    async def _set_up(self) -> None:
        self.rig = Rig()
        database = self.rig.database
        for table in (database.consents, database.consent_marks, database.consent_versions):
            table.rows.clear()
        other = database.merchants.rows["merchant-1"]  # type: ignore[index]
        database.merchants.rows["merchant-2"] = type(other)(  # type: ignore[index]
            MerchantId("merchant-2"), other.acceptor, other.networks, active=True
        )
        self.network = HeldNetwork(self.rig)
        self.execution = self.rig.new_execution(self.network)
        self.results = asyncio.get_running_loop().create_task(self.execution.results.run())
        self.reversals = self.rig.new_reversals("w", self.network)
        self.consents = ConsentRig(self.rig.faults, database)
        self.consents.clock = self.rig.clock
        self.consents.service = self.consents.new_service()
        self.expiry = self.rig.schedule.expiry

    def teardown(self) -> None:
        async def stop() -> None:
            self.results.cancel()

        self.runner.run(stop())
        self.runner.close()

    @property
    def now(self) -> datetime:
        return self.rig.clock.now()

    @initialize(start=STARTS, first=PURPOSES, second=PURPOSES)
    def begin(self, start: datetime, first: PaymentPurpose, second: PaymentPurpose) -> None:
        self.rig.clock.set(start.astimezone(UTC))
        for name, purpose in zip(self.names, (first, second), strict=True):
            self._request(name, timedelta(0), timedelta(days=4000), purpose)
        for place in (0, 1):
            self.command(place, "grant", proven=True)

    # --- commands ---

    @rule(
        place=PLACES,
        begins=st.sampled_from([timedelta(0), timedelta(0), timedelta(days=-40), timedelta(hours=1)]),
        length=LENGTHS,
        purpose=PURPOSES,
        granted=st.sampled_from([True, True, True, False]),
    )
    def request(
        self, place: int, begins: timedelta, length: timedelta, purpose: PaymentPurpose, *, granted: bool
    ) -> None:
        if self.oracles[self.names[place]].status in LIVE:
            return
        self.names[place] = f"consent-{len(self.oracles)}"
        self._request(self.names[place], begins, length, purpose)
        if granted:
            self.command(place, "grant", proven=True)

    def _request(self, name: str, begins: timedelta, length: timedelta, purpose: PaymentPurpose) -> None:
        start = self.now + begins
        asked = terms(consent_id=name, valid_from=start, valid_until=start + length, payment=purpose)
        self._take(self.consents.record("request", consent_id=name, terms=document(asked)))
        oracle = self.oracles[name] = Oracle()
        if asked.valid_until > self.now:
            oracle.status, oracle.terms, oracle.changes = "AWAU", asked, 1

    @rule(place=PLACES, command=COMMANDS, proven=st.sampled_from([True, True, True, False]))
    def command(self, place: int, command: str, *, proven: bool) -> None:
        name = self.names[place]
        self._take(self.consents.instruction(command, consent_id=name, proven=proven))
        oracle = self.oracles[name]
        oracle.let_time_end_it(self.now)
        after = MOVES.get((oracle.status, command))
        if oracle.status != WANTED[command] and after and (proven or command not in NEED_PROOF):
            oracle.status = after
            oracle.changes += 1

    @rule(place=PLACES, purpose=PURPOSES, length=LENGTHS, fault=st.sampled_from(["", "", "", "start", "proof"]))
    def amend(self, place: int, purpose: PaymentPurpose, length: timedelta, fault: str) -> None:
        name = self.names[place]
        oracle = self.oracles[name]
        if oracle.terms is None:
            return
        start = oracle.terms.valid_from + (timedelta(seconds=1) if fault == "start" else timedelta(0))
        end = max(self.now, start) + length
        asked = terms(consent_id=name, valid_from=start, valid_until=end, payment=purpose)
        self._take(self.consents.amendment(asked, proven=fault != "proof"))
        oracle.let_time_end_it(self.now)
        same = digest(document(asked)) == digest(document(oracle.terms))
        if (oracle.status, "amend") in MOVES and not fault and not same:
            oracle.terms = asked
            oracle.version += 1
            oracle.changes += 1
            event("amended")

    @rule(
        place=PLACES, command=st.sampled_from(["suspend", "resume", "resume", "resume", "revoke"]).map(ConsentCommand)
    )
    @precondition(lambda self: self.orders % 4 == 3)
    def operator(self, place: int, command: ConsentCommand) -> None:
        name = self.names[place]
        key = ("partner-1", name)
        oracle = self.oracles[name]
        oracle.let_time_end_it(self.now)
        after = MOVES.get((oracle.status, command.value)) if oracle.status != WANTED[command.value] else None
        try:
            changed = self.runner.run(change_consent_status(self.rig.store, self.rig.clock, key, command))  # type: ignore[arg-type]
        except (ConsentCommandRefusedError, ConsentUnknownError):
            assert after is None
            return
        assert changed.status == after
        oracle.status = after or ""
        oracle.changes += 1
        if command is not ConsentCommand.RESUME:
            open_now = {self._payment(o).payment_id for o in self.consent_of if self._is_open(o, name)}
            assert set(changed.in_flight) == open_now

    @rule()
    def let_the_timer_run(self) -> None:
        self.runner.run(self.expiry.expire())
        for oracle in self.oracles.values():
            oracle.let_time_end_it(self.now)

    @rule(step=STEPS)
    def wait(self, step: timedelta) -> None:
        self.rig.clock.set(self.now + step)

    def _take(self, record: Any) -> None:
        # Twice, as Kafka may deliver it.
        self.runner.run(self.consents.service.take([record]))
        self.runner.run(self.consents.service.take([record]))

    # --- orders and results ---

    @rule(target=in_flight, place=PLACES, buy=BUYS)
    def order(self, place: int, buy: tuple[int, str, str]) -> str:
        (order_id,) = self._execute(self.names[place], [buy])
        return order_id

    @rule(place=PLACES, buys=st.lists(BUYS, min_size=1, max_size=8))
    def batch(self, place: int, buys: list[tuple[int, str, str]]) -> None:
        for order_id in self._execute(self.names[place], buys):
            self._settle(order_id, "00", "approved")

    @rule(place=PLACES, buys=st.lists(BUYS, min_size=1, max_size=4), step=STEPS)
    def batch_after_a_while(self, place: int, buys: list[tuple[int, str, str]], step: timedelta) -> None:
        self.wait(step)
        self.batch(place, buys)

    def _execute(self, name: str, buys: list[tuple[int, str, str]]) -> list[str]:
        oracle, records, expected = self.oracles[name], [], []
        for minor, currency, merchant in buys:
            self.orders += 1
            placed = numbered_order(
                self.orders,
                consent_id=name,
                merchant_id=merchant,
                amount=Money.of(minor, currency),
                issued_at=self.now,
                expires_at=self.now + timedelta(minutes=5),
            )
            records.append(dispatched_record(placed, offset=self.orders))
            stopped = oracle.stops(self.now, minor, currency, merchant)
            expected.append((placed.order_id, stopped, stopped and stopped[1] and stopped[1].most - stopped[1].used))
            if stopped is None:
                oracle.pay(placed.order_id, self.now, minor, currency)
            self.consent_of[placed.order_id] = name
        self.runner.run(self.execution.take(records))
        for order_id, stopped, left in expected:
            found = self._payment(order_id)
            assert (found.state.value == "rejected") == (stopped is not None), (found.reason, stopped)
            assert found.consent_version == (oracle.version if oracle.status else 0)
            event(f"refused {stopped[0]}" if stopped else "paid")
            if stopped is not None:
                assert found.reason is not None
                agrees(found.reason, stopped[0], stopped[1], left)
        return [order_id for order_id, _, _ in expected]

    @rule(order_id=consumes(in_flight), end=st.sampled_from(["00", "00", "51", "not sent", "unanswered"]))
    def result(self, order_id: str, end: str) -> None:
        ends = {"00": "approved", "51": "undone", "not sent": "undone", "unanswered": "in flight"}
        self._settle(order_id, end, ends[end])

    def _settle(self, order_id: str, end: str, state: str) -> None:
        oracle = self.oracles[self.consent_of[order_id]]
        trace = self._payment(order_id).trace
        if trace is None:
            return

        async def deliver() -> None:
            match end:
                case "not sent":
                    self.network.held.pop(trace.rrn)(NotSent(NotSentCause.NO_LINK))
                case "unanswered":
                    self.network.held.pop(trace.rrn)(Unanswered(UnansweredCause.TIMEOUT))
                case _:
                    self.network.answer(trace.rrn, end)
            await self.execution.results.written()

        self.runner.run(deliver())
        oracle.paid[order_id].state = state

    @rule()
    def reverse_what_is_unknown(self) -> None:
        self.runner.run(self.reversals.work())
        for order_id, name in self.consent_of.items():
            if self._payment(order_id).state.value == "reversed":
                self.oracles[name].paid[order_id].state = "undone"

    @rule(pick=st.integers(0, 99))
    def undo_an_approved_one(self, pick: int) -> None:
        able = [o for o in self.consent_of if self._payment(o).state.value == "approved"]
        if not able:
            return
        change = Change(self._payment(able[pick % len(able)]).key, PaymentEventKind.REVERSAL_STARTED)

        async def undo() -> None:
            async with self.rig.store.transaction() as uow:
                await apply_changes(uow, [change], now=self.now)

        self.runner.run(undo())

    # --- what must always hold ---

    @invariant()
    def the_consents_are_as_the_oracle_says(self) -> None:
        for name, oracle in self.oracles.items():
            found = self.rig.database.consents.rows.get(("partner-1", name))  # type: ignore[call-overload]
            assert (found.status.value if found else "") == oracle.status
            if found is not None:
                assert (found.terms, found.version) == (oracle.terms, oracle.version)

    @invariant()
    def each_change_was_told_once_and_in_order(self) -> None:
        for name, oracle in self.oracles.items():
            told = [
                json.loads(e.body)["change"]
                for e in self.rig.events()
                if e.event_type == "kr.mypay.consent.changed.v1" and e.key == name
            ]
            assert told == list(range(1, oracle.changes + 1))

    @invariant()
    def the_usage_is_the_sum_of_the_payments(self) -> None:
        wanted: dict[Any, list[int]] = {}
        for order_id, name in self.consent_of.items():
            paid = self.oracles[name].paid.get(order_id)
            if paid is None or paid.state == "undone":
                continue
            for window in self._payment(order_id).windows:
                sums = wanted.setdefault(("partner-1", name, window), [0, 0])
                sums[0] += paid.minor
                sums[1] += 1
        rows = self.rig.database.usage.rows
        assert {k: u for k, u in rows.items() if u != Usage()} == {k: Usage(*s) for k, s in wanted.items()}

    def _payment(self, order_id: str) -> Payment:
        return self.rig.payment(int(order_id.removeprefix("order-")))

    def _is_open(self, order_id: str, name: str) -> bool:
        state = self._payment(order_id).state.value
        return self.consent_of[order_id] == name and state in ("sent", "unknown", "reversing")


def agrees(refused: Reason, code: str, cap: Cap | None, left: int | None) -> None:
    assert refused.code == code, (refused, code)
    if cap is not None and left is not None:
        assert f"limit {cap.name} " in refused.text
        found = re.search(r": ([\d.]+)(?: [A-Z]{3})? left", refused.text)
        assert found is not None, refused.text
        assert int(found.group(1).replace(".", "")) == max(0, left)


TestConsents = Machine.TestCase
TestConsents.settings = settings(max_examples=160, stateful_step_count=50, deadline=None)
