"""``mypay prove restore``: the database is lost and restored to before the last payments; nothing is paid twice."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from gateway.cli.common import CliError, ExitCode, err, local_home, say
from gateway.cli.demo import run_to_end, show_books
from gateway.cli.live import LiveView, results

if TYPE_CHECKING:
    from gateway.proving.restoring.run import RestoreResult

NAME: Final = "restore"


def command(
    *,
    orders: Annotated[int, typer.Option(help="Orders of the mix that the drill takes its own from.", min=150)] = 600,
    seed: Annotated[int, typer.Option(help="Decides the orders.", min=0)] = 1,
    stop: Annotated[bool, typer.Option("--stop", help="Stop what a killed run left running, and end.")] = False,
) -> None:
    """Back PostgreSQL up, lose it, restore it to before the last payments, and follow deploy/RESTORE.md.

    What the network executed and the database forgot must stand again, once, and whatever ended must stay ended.
    """
    try:
        from gateway.proving.restoring.run import run_restore  # noqa: PLC0415
        from gateway.proving.world.opening import stop_kept  # noqa: PLC0415
        from gateway.proving.world.world import WorldPlan  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise CliError(f"This needs the package {error.name}.", hint="Run `make install`.") from error
    home = local_home()
    if stop:
        say(f"{stop_kept(NAME, home)} processes of a drill were stopped; its Kafka and PostgreSQL are gone.")
        return
    world = WorldPlan(
        NAME, home, seed=seed, with_gateway=False, with_proofs=True, with_disclosure=True, asked=("bcard",)
    )
    view = RestoreView()
    result = run_to_end(run_restore(world, orders=orders, seed=seed, view=view))
    view.live.settle()
    show(result)
    typer.echo(result.last_line())
    if not result.ok:
        raise typer.Exit(ExitCode.FAILED)


class RestoreView:
    """Implements :class:`gateway.proving.restoring.run.View` on standard error."""

    def __init__(self) -> None:
        self.live = LiveView(err())
        self.step = self.live.step
        self.scene = self.live.scene


def show(result: "RestoreResult") -> None:
    """Print what the commands said, and the checks."""
    console = results()
    found = result.commands["payments"]
    settled = result.commands["settle"]
    again, doubt, caught_up = found["again"], len(found["in_doubt"]), found["caught_up"]
    executed, undone, left = (len(settled[name]) for name in ("executed", "not_executed", "open"))
    logged, published = result.commands["stored"]["entries"], result.commands["published"]["findings"]
    lines = [
        f"Forgotten: {result.forgotten:,} payments that the network knows, {result.untold:,} of which nobody was told.",
        f"mypay restore payments: {again:,} stand again as told, {doubt:,} in doubt, {caught_up:,} caught up with,",
        f"  {found['rejected']:,} rejections stand, {len(found['ended']):,} consents that operators had ended are so.",
        f"mypay restore settle: {executed:,} were executed, {undone:,} were not, {left:,} are open.",
        f"mypay audit verify: {logged:,} entries are whole; {len(published):,} roots were published of what was lost.",
    ]
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
    show_books(result.checked)
