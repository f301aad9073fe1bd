"""Standing orders."""

from gateway.database.queries import load
from gateway.orders.standing.postgres import standing_of
from gateway.orders.standing.rules import StandingOrder
from gateway.views.view import View

_SQL = load(__name__, "standing_orders")


class StandingOrdersView(View):
    """Standing orders."""

    async def find(self, standing_order_id: str, *, partner_id: str | None = None) -> list[StandingOrder]:
        """Standing orders with this id: one a partner at most."""
        return [standing_of(r) for r in await self._fetch(_SQL.standing, partner_id, standing_order_id)]
