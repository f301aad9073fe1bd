"""The merchant directory, a page at a time."""

from gateway.database.queries import load
from gateway.directory.merchants import Merchant
from gateway.network.exchange import Acceptor
from gateway.views.view import View
from schemas.primitives import MerchantId

_SQL = load(__name__, "merchants")


class MerchantsView(View):
    """Merchants."""

    async def page(self, *, after: str = "", limit: int = 100) -> list[Merchant]:
        """Merchants by id, a page at a time: those past ``after``."""
        return [
            Merchant(
                merchant_id=MerchantId(r["merchant_id"]),
                acceptor=Acceptor(r["acceptor_id"], r["name_location"], r["mcc"]),
                networks=frozenset(r["networks"]),
                active=r["active"],
                name=r["name"],
            )
            for r in await self._fetch(_SQL.merchants, after, limit)
        ]
