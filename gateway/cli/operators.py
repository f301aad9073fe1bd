"""``mypay operators …``: who changed what by hand and why; proposals that a second person must approve."""

from typing import Annotated, Any
from uuid import UUID

import typer

from gateway.app.payloads import facts_of
from gateway.cli.common import Json, load_settings, postgres_dsn, print_json, print_table, run, say, say_if_cut, shown
from gateway.cli.operating import operated
from gateway.cli.operations import decide
from gateway.directory.approval import Decision, Proposal
from gateway.views.operator_actions import Action, OperatorActionsView

app = typer.Typer(no_args_is_help=True)

ProposalArgument = Annotated[UUID, typer.Argument(metavar="PROPOSAL")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="Rows at most, the newest first.")]


def _subject(*, proposal: UUID, **_: Any) -> str:
    return str(proposal)


@app.command()
def log(
    operator: Annotated[str | None, typer.Option("--operator", metavar="NAME", help="Of this operator alone.")] = None,
    limit: Limit = 100,
    json_: Json = False,
) -> None:
    """Show what operators did. What is unknown, or has no outcome, may have been done: look there."""
    settings = load_settings()

    async def read() -> list[Action]:
        async with OperatorActionsView.opened(postgres_dsn(settings)) as operators:
            return await operators.actions(operator=operator, limit=limit)

    found = run(read())
    say_if_cut(found, limit)
    if json_:
        print_json(found)
        return
    rows = [(a.at, f"{a.operator}\n({a.login})", f"{a.command}\n{a.subject}", a.why, a.outcome) for a in found]
    print_table("Actions", ("when", "who (login)", "what", "why", "outcome"), rows)


@app.command()
def proposals(
    every: Annotated[bool, typer.Option("--all", help="Also those decided, and those whose time is over.")] = False,
    limit: Limit = 100,
    json_: Json = False,
) -> None:
    """Show what waits for a second person."""
    settings = load_settings()

    async def read() -> list[Proposal]:
        async with OperatorActionsView.opened(postgres_dsn(settings)) as operators:
            return await operators.proposals(every=every, limit=limit)

    found = run(read())
    say_if_cut(found, limit)
    if json_:
        print_json(found)
        return
    rows = [(p.proposal_id, _words(p), _standing(p)) for p in found]
    print_table("Proposals", ("proposal", "what, by whom and why", "decision"), rows, whole=("proposal",))


def _words(proposal: Proposal) -> str:
    why = f": {proposal.why}" if proposal.why else ""
    facts = [f"{name}: {value}" for name, value in facts_of(proposal.payload)]
    return "\n".join([proposal.kind, proposal.subject, *facts, f"by {proposal.operator}{why}"])


def _standing(proposal: Proposal) -> str:
    if proposal.decision is None:
        return f"open until {shown(proposal.expires_at)}"
    return f"{proposal.decision} by {proposal.decided_by}"


@app.command()
@operated("operators approve", _subject)
def approve(proposal: ProposalArgument, json_: Json = False) -> None:
    """Approve what another operator proposed; it is done in the same moment."""
    _decide(proposal, Decision.APPROVED, json_=json_)


@app.command()
@operated("operators reject", _subject)
def reject(proposal: ProposalArgument, json_: Json = False) -> None:
    """Reject a proposal, or take back one of your own."""
    _decide(proposal, Decision.REJECTED, json_=json_)


def _decide(proposal: UUID, decision: Decision, *, json_: bool) -> None:
    decided, told = decide(load_settings(), proposal, decision)
    if json_:
        print_json({"proposal_id": proposal, "decision": decision, "kind": decided.kind, "subject": decided.subject})
    else:
        say(f"Proposal {proposal} is {decision}. {told}")
