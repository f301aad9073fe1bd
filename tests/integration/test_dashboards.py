"""Every panel shows something: its expression gives data from a Prometheus that looks at a gateway at work."""

from pathlib import Path

from gateway.observability.dashboards import DASHBOARDS, RATE
from tests.support.prometheus import running_prometheus, until, watched
from tests.support.scene import Scene

NOT_RUN = {"disclosure", "portability", "sharing", "marketing", "consents"}
"""Stages that the tests' world does not run; what they alone serve is seen in their own tests' pages."""

OF_THEM = (
    *("mypay_disclosure_", "mypay_exports_total", "mypay_shares_", "mypay_offers_", "mypay_consent_commands_"),
    # Told once a consent has been revoked under load.
    "mypay_revoke_to_last_use_seconds",
)


async def test_every_panel_has_data(scene: Scene, tmp_path: Path) -> None:
    async with watched(scene) as targets, running_prometheus(tmp_path / "prometheus", targets) as prometheus:
        entries = scene.payments(40)
        await scene.send(entries)
        await scene.until_states(entries, "approved")
        await scene.settle()
        panels = {
            (one.title, panel.title): [expr for expr, _ in panel.series]
            for one in DASHBOARDS
            for panel in one.panels
            if not any(name in expr for expr, _ in panel.series for name in OF_THEM)
        }
        assert len(panels) > 35
        empty: dict[tuple[str, str], str] = {}

        async def filled() -> bool:
            empty.clear()
            for title, exprs in panels.items():
                for expr in exprs:
                    found = await prometheus.query(expr.replace(RATE, "30s"))
                    if not [s for s in found if s["value"][1] != "NaN"]:
                        empty[title] = expr
            return not empty

        try:
            await until(filled, "every panel has data")
        except AssertionError as error:
            raise AssertionError(f"no data: {empty}") from error
