"""Merchants of the directory."""

from msgspec import Struct

from gateway.network.exchange import Acceptor
from schemas.primitives import MerchantId, NetworkId


class Merchant(Struct, frozen=True, gc=False):
    """An entry of the merchant directory.

    Attributes:
        acceptor: the merchant as networks know it; its category is ``acceptor.mcc``.
        networks: the networks that this merchant has a contract with.
        active: False once the merchant left: it is known, but not paid any more.
        name: what people call it, in any script; decisions read the directory without it.
    """

    merchant_id: MerchantId
    acceptor: Acceptor
    networks: frozenset[NetworkId]
    active: bool
    name: str | None = None
