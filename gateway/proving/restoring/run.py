"""The restore drill: orders are paid, the database is lost and restored to before the last of them, and nothing is.

It follows ``deploy/RESTORE.md`` by the commands that people run. These are lost:
payments that partners were told of; payments that were executed and nobody was told of, for the relay was down; a
clearing cycle; a revocation that a partner sent, and one that an operator made.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from gateway.base.to_end import in_thread
from gateway.client import signed
from gateway.proving.books import Checked, Endings, Evidence
from gateway.proving.books.evidence import NetworkEntry, PaymentRow
from gateway.proving.books.losses import Losses, losses_of
from gateway.proving.restoring.told import log_goes_on, told_onwards
from gateway.proving.stack import archiving
from gateway.proving.torture.load import fetch
from gateway.proving.torture.rest import come_to_rest, lags
from gateway.proving.traffic.cast import Cast, Customer, Role, make_cast, make_partners
from gateway.proving.traffic.mix import PAID, Planned, Wave, plan, roles_for
from gateway.proving.traffic.orders import OrderWriter
from gateway.proving.traffic.sending import Sender, open_sender
from gateway.proving.world.judging import judge
from gateway.proving.world.opening import open_world
from gateway.proving.world.starting import start_gateway, start_stopped
from gateway.proving.world.world import World, WorldError, WorldPlan
from schemas.consent_commands import CONSENT_REVOKE_TYPE, ConsentInstruction

PER_SECOND: Final = 60.0
TAIL: Final = 6
"""Orders that are executed while the relay is down."""

AGAIN: Final = 8
"""Orders that their partners send once more after the restore, to the byte."""

SILENT: Final = 3
"""Orders that the network books and does not answer, so that they are in flight when the database is lost."""

_REJECTED: Final = frozenset(("payee_not_allowed", "over_payment"))
_KINDS: Final = PAID | {"declined"} | _REJECTED
_WAIT_S: Final = 90.0
_POLL_S: Final = 0.1
_FIRST: Final = ("consents", "relay")
"""Processes that run before payments are found again."""


class View(Protocol):
    """Shows a run to whoever watches."""

    def step(self, title: str) -> AbstractContextManager[None]:
        """A step runs, for as long as the block lasts."""

    def scene(self, text: str) -> None:
        """Something is worth a sentence."""


@dataclass(slots=True)
class RestoreResult:
    """What came out.

    Attributes:
        orders: that were sent.
        forgotten: payments that were sent to the network and that the restored database did not have.
        untold: of these, those that nobody was told of.
        reconciled: of the forgotten, those that stand again, ended as the network has them.
    """

    evidence: Evidence
    endings: Endings
    checked: list[Checked]
    losses: Losses
    orders: int
    forgotten: int
    untold: int
    reconciled: int
    commands: dict[str, Any]

    @property
    def ok(self) -> bool:
        """True if nothing was lost, doubled or wrong."""
        whole = self.forgotten > self.untold > 0 and self.reconciled == self.forgotten
        return whole and not (self.losses.lost or self.losses.doubled) and all(c.ok for c in self.checked)

    def last_line(self) -> str:
        """The line for machines."""
        balanced = "balanced" if all(c.ok for c in self.checked) else "UNBALANCED"
        return (
            f"restore: orders={self.orders} forgotten={self.forgotten} reconciled={self.reconciled} "
            f"doubled={self.losses.doubled} lost={self.losses.lost} books={balanced}"
        )


async def run_restore(world_plan: WorldPlan, *, orders: int, seed: int, view: View) -> RestoreResult:
    """Run it.

    Raises:
        WorldError, ChildError, gateway.proving.stack.LocalStackError: it could not be set up, or a step did not work.
    """
    now = datetime.now(UTC)
    cast = make_cast({**roles_for(orders), Role.REVOKED: 2}, partners=make_partners(), now=now, seed=seed)
    parts = _parts(plan(orders, cast, seed), cast)
    async with open_world(replace(world_plan, with_gateway=False), cast, steps=view.step) as world:
        with view.step("Keeping an archive of PostgreSQL's log"):
            await in_thread(archiving.keep_archive, world.name, home=world.plan.home)
        await start_gateway(world, view.step)
        async with open_sender(world.kafka, OrderWriter(cast, parts.all)) as sender:
            drill = _Drill(world, sender, parts, view)
            await drill.pay_and_lose()
            await drill.restore()
            await drill.go_on()
        with view.step("Checking the books from three sides"):
            result = await drill.judge()
        world.succeeded = result.ok
    return result


@dataclass(frozen=True, slots=True)
class _Parts:
    """What is sent, in this order; the database is restored to between the second and the third."""

    before_backup: Sequence[Planned]
    kept: Sequence[Planned]
    forgotten: Sequence[Planned]
    silent: Sequence[Planned]
    untold: Sequence[Planned]
    after: Sequence[Planned]
    revoked: Sequence[Customer]
    under_revoked: Sequence[Planned]

    @property
    def again(self) -> list[Planned]:
        """Of those that the database forgets, some that come once more, to the byte."""
        paid = [p for p in (*self.forgotten, *self.silent, *self.untold) if p.kind in PAID]
        return [replace(p, kind="repeated") for p in paid[-AGAIN:]]

    @property
    def all(self) -> list[Planned]:
        """Every order."""
        return [
            *(*self.before_backup, *self.kept, *self.forgotten, *self.silent),
            *(*self.untold, *self.again),
            *(*self.under_revoked, *self.after),
        ]


def _parts(planned: Sequence[Planned], cast: Cast) -> _Parts:
    main = [p for p in planned if p.wave is Wave.MAIN and p.kind in _KINDS]
    refunds = [p for p in planned if p.kind == "refund_part"]
    originals = [p for p in main if p.order_id in {r.refund_of for r in refunds}]
    rejected = [p for p in main if p.kind in _REJECTED]
    plain = [p for p in main if p.kind in PAID and p not in originals]
    untold, silent, after = plain[-TAIL:], plain[-TAIL - SILENT : -TAIL], plain[-3 * TAIL - SILENT : -TAIL - SILENT]
    rest = [p for p in main if p not in (*originals, *rejected, *untold, *silent, *after)]
    third = len(rest) // 3
    forgotten = [*rest[2 * third :], *rejected, *refunds]
    revoked = cast.of(Role.REVOKED)
    sample = next(p for p in planned if p.wave is Wave.REVOKED)
    under = [
        replace(sample, order_id=f"{sample.order_id}-{n}", partner_id=c.terms.partner_id, consent_id=c.terms.consent_id)
        for n, c in enumerate(revoked)
    ]
    return _Parts(
        [*originals, *rest[:third]], rest[third : 2 * third], forgotten, silent, untold, after, revoked, under
    )


class _Drill:
    """The phases, one after the other."""

    def __init__(self, world: World, sender: Sender, parts: _Parts, view: View) -> None:
        self._world = world
        self._sender = sender
        self._parts = parts
        self._view = view
        self._to = datetime.now(UTC)
        self._forgotten: set[tuple[str, Any]] = set()
        self._untold = 0
        self._commands: dict[str, Any] = {}

    # --- before ---

    async def pay_and_lose(self) -> None:
        world, parts, view = self._world, self._parts, self._view
        with view.step("Paying, and a base backup"):
            await self._send(parts.before_backup)
            await in_thread(archiving.base_backup, world.name, home=world.plan.home)
            await self._send(parts.kept)
            await self._until("the first payments to be told", self._is_told)
        self._to = (await fetch(world.postgres_dsn, "SELECT clock_timestamp() AS now"))[0]["now"]
        # What is restored ends before the first commit that is younger, to the second that people type.
        await asyncio.sleep(1.1)
        with view.step("Paying what will be forgotten; consents are revoked, a cycle is cleared"):
            await self._send(parts.forgotten)
            await self._revoke()
            await self._until("these payments to be told", self._is_told)
            await world.networks[0].close_cycle()
            await self._until("their clearing", self._is_settled)
            await self._until("that to be told", self._is_told)
        with view.step("Paying while the network is silent, and while the relay is down"):
            network = world.networks[0]
            await network.set_faults(drop_after_apply=1.0, classes=["financial"])
            await self._send(parts.silent)
            await self._until("payments without an answer to be told", self._silent_are_told)
            world.stage("relay").kill()
            await network.clear_faults()
            await self._send(parts.untold)
            await self._until("payments that nobody is told of", self._untold_are_approved)
        rows = await fetch(
            world.postgres_dsn,
            "SELECT partner_id, payment_id FROM payment WHERE rrn IS NOT NULL AND decided_at > $1",
            self._to,
        )
        self._forgotten = {(r["partner_id"], r["payment_id"]) for r in rows}
        self._untold = len(parts.untold)
        view.scene(f"{len(rows)} payments since {self._to:%H:%M:%S} UTC; now the database is lost")
        with view.step("Losing the database"):
            await in_thread(archiving.archive_now, world.name, home=world.plan.home)
            await self._until("the archive", self._is_archived)
            for stage in world.stages:
                stage.kill()
            await asyncio.gather(*(s.ended() for s in world.stages))
            await in_thread(archiving.lose_postgres, world.name, home=world.plan.home)

    async def _revoke(self) -> None:
        """One by its partner's command; one by an operator, whose command is nowhere but in the database."""
        first, second = self._parts.revoked
        terms = first.terms
        message = ConsentInstruction(
            partner_id=terms.partner_id,
            consent_id=terms.consent_id,
            command_id="restore-1",
            issued_at=datetime.now(UTC),
        )
        partner = self._world.cast.partner(terms.partner_id)
        await self._sender.command(signed(partner.signer, message, type_=CONSENT_REVOKE_TYPE))
        await self._until("the revocation", lambda: self._has_ended(first))
        await self._mypay("consent", "revoke", second.terms.consent_id, "--partner", second.terms.partner_id)

    # --- the procedure ---

    async def restore(self) -> None:
        world, view = self._world, self._view
        # A moment has whole seconds for people; nothing was committed in the second after it.
        to = self._to.replace(microsecond=0).isoformat()
        with view.step("Restoring the backup, and the archive up to that moment"):
            await in_thread(archiving.restore_postgres, world.name, home=world.plan.home, to=self._to)
        with view.step("mypay restore begin"):
            self._commands["begin"] = await self._mypay("restore", "begin", "--to", to, "--json")
        with view.step("Running consents and relay alone"):
            await start_stopped(world, _FIRST)
            await self._until("the commands on consents", lambda: self._is_done("mypay-consents"))
        with view.step("mypay restore payments"):
            self._commands["payments"] = await self._mypay("restore", "payments", "--to", to, "--json")
        with view.step("Running every stage; networks stay paused"):
            await start_stopped(world, [s.name for s in world.stages])
            await self._until("what was told as sent to be settled with the network", self._nothing_is_asked)
        with view.step("mypay restore settle, once all is cleared"):
            await world.networks[0].close_cycle()
            await self._until("the clearing to be taken in", self._is_cleared)
            network = world.networks[0].network_id
            self._commands["settle"] = await self._mypay("restore", "settle", network, "--complete", "--json")
            await self._mypay("network", "resume", network)

    async def go_on(self) -> None:
        """What came before is asked for again, what ended stays ended, and new orders are paid."""
        world, parts = self._world, self._parts
        with self._view.step("Paying again: orders anew, once more, and under consents that had ended"):
            await self._send(parts.again)
            await self._send(parts.under_revoked)
            await self._send(parts.after)
            await come_to_rest(world, tell=_silent)

    # --- the verdict ---

    async def judge(self) -> RestoreResult:
        self._commands["stored"] = await self._mypay("audit", "verify", "--stored", "--json")
        self._commands["published"] = await self._mypay("audit", "verify", "--json", may_find=True)
        judged = await judge(self._world, self._sender.produced, redelivery=True, breaks_allowed=False)
        evidence = judged.evidence
        checked = [c for c in judged.checked if c.name != "events_complete"]
        checked += [told_onwards(evidence), log_goes_on(self._commands["stored"], self._commands["published"])]
        reconciled = sum(is_reconciled(evidence.payments.get(key), evidence.network) for key in self._forgotten)
        return RestoreResult(
            evidence=evidence,
            endings=judged.endings,
            checked=checked,
            losses=losses_of(evidence, judged.endings),
            orders=len(self._sender.produced),
            forgotten=len(self._forgotten),
            untold=self._untold,
            reconciled=reconciled,
            commands=self._commands,
        )

    # --- waiting and doing ---

    async def _send(self, planned: Sequence[Planned]) -> None:
        await self._sender.send(planned, per_second=PER_SECOND, tick=lambda: None)

    async def _until(self, what: str, holds: Callable[[], Awaitable[bool]]) -> None:
        try:
            async with asyncio.timeout(_WAIT_S):
                while not await holds():  # noqa: ASYNC110 - other processes tell nobody
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise WorldError(f"after {_WAIT_S:.0f} s still waiting for {what}; logs: {self._world.logs}") from None

    async def _is_told(self) -> bool:
        """Every record has been taken, every payment decided, every event told."""
        if any((await lags(self._world)).values()):
            return False
        sql = """
        SELECT NOT EXISTS (SELECT FROM payment WHERE state IN ('sent', 'unknown', 'reversing'))
           AND NOT EXISTS (SELECT FROM outbox o, outbox_cursor c WHERE (o.tx, o.id) > (c.tx, c.id)) AS done
        """
        return bool((await fetch(self._world.postgres_dsn, sql))[0]["done"])

    async def _is_settled(self) -> bool:
        sql = "SELECT NOT EXISTS (SELECT FROM payment WHERE state = 'approved') AS done"
        return bool((await fetch(self._world.postgres_dsn, sql))[0]["done"])

    async def _silent_are_told(self) -> bool:
        sql = """
        SELECT (SELECT count(*) FROM payment WHERE state IN ('sent', 'unknown')) AS open,
            EXISTS (SELECT FROM outbox o, outbox_cursor c WHERE (o.tx, o.id) > (c.tx, c.id)) AS untold
        """
        row = (await fetch(self._world.postgres_dsn, sql))[0]
        return row["open"] == len(self._parts.silent) and not row["untold"]

    async def _untold_are_approved(self) -> bool:
        sql = "SELECT count(*) AS n FROM payment WHERE state = 'approved' AND order_id = ANY ($1::text[])"
        ours = [p.order_id for p in self._parts.untold]
        return int((await fetch(self._world.postgres_dsn, sql, ours))[0]["n"]) == len(ours)

    async def _nothing_is_asked(self) -> bool:
        """What is left in doubt has no number to ask about."""
        sql = """
        SELECT NOT EXISTS (SELECT FROM payment WHERE rrn IS NOT NULL AND state IN ('sent', 'unknown', 'reversing'))
        AS done
        """
        return bool((await fetch(self._world.postgres_dsn, sql))[0]["done"])

    async def _is_cleared(self) -> bool:
        """Nothing lies in the inbox, nothing waits on the topics."""
        if list(self._world.networks[0].inbox.glob("*.csv")):
            return False
        return await self._is_done("mypay-settlement")

    async def _is_done(self, group: str) -> bool:
        return not (await lags(self._world))[group]

    async def _is_archived(self) -> bool:
        return await in_thread(archiving.archived, self._world.name, home=self._world.plan.home)

    async def _has_ended(self, customer: Customer) -> bool:
        sql = "SELECT 1 FROM consent WHERE partner_id = $1 AND consent_id = $2 AND status = 'CANC'"
        return bool(await fetch(self._world.postgres_dsn, sql, customer.terms.partner_id, customer.terms.consent_id))

    async def _mypay(self, *arguments: str, may_find: bool = False) -> Any:
        """Run a command as an operator does; what it prints as JSON."""
        world = self._world
        owner = {"MYPAY_POSTGRES_DSN_OWNER": world.postgres_dsn, "MYPAY_OPERATOR": "drill"}
        name = "-".join(a for a in arguments[:2])
        program = ["-c", "from gateway.cli import main; main()", *arguments]
        done = await asyncio.create_subprocess_exec(
            sys.executable,
            *program,
            cwd=world.directory,
            env={**world.environment, **owner},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await done.communicate()
        if done.returncode and not (may_find and out):
            said = (err or out).decode(errors="replace")[-2000:]
            raise WorldError(f"mypay {name} ended with {done.returncode}: {said}")
        return json.loads(out) if "--json" in arguments else None


_FINAL: Final = {"settled": "approved", "declined": "declined", "reversed": "reversed"}
"""State here of a payment that was sent and has ended → its network's."""


def is_reconciled(payment: PaymentRow | None, network: Sequence[NetworkEntry]) -> bool:
    """True if a payment that was sent stands, has ended, and its network has exactly it, ended so, too."""
    if payment is None or payment.rrn is None or payment.state not in _FINAL:
        return False
    there = [e.state for e in network if (e.network_id, e.rrn) == (payment.network_id, payment.rrn)]
    return there == [_FINAL[payment.state]]


def _silent(text: str) -> None:
    del text
