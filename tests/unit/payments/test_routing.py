from itertools import permutations

import pytest

from gateway.payments.rules.routing import NetworkProfile, route
from schemas.primitives import NetworkId
from schemas.reasons import Reason
from tests.support import domain_samples as sample


def network(spec: str) -> NetworkProfile:
    """``name:currencies:categories:fixed+basis points:open``; categories ``*``: all."""
    name, currencies, categories, cost, is_open = spec.split(":")
    fixed, basis_points = cost.split("+")
    return NetworkProfile(
        network_id=NetworkId(name),
        currencies=frozenset(currencies.split(",")),
        categories=None if categories == "*" else frozenset(categories.split(",")),
        cost_fixed_minor=int(fixed),
        cost_basis_points=int(basis_points),
        open=is_open == "open",
    )


# The merchant is of category 5411 and has contracts with a, b and c.
ROUTES = """
  amount  currency  networks                                       chosen  why
  1000    KRW       a:KRW:*:10+0:open                              a       the only one
  1000    KRW       -                                              AGNT    none at all
  1000    KRW       d:KRW:*:0+0:open                               AGNT    no contract
  1000    USD       a:KRW:*:0+0:open                               AGNT    no such currency
  1000    USD       a:KRW:*:0+0:open     b:KRW,USD:*:99+0:open     b       the one with the currency
  1000    KRW       a:KRW:5812:0+0:open                            AGNT    no such category
  1000    KRW       a:KRW:5812:0+0:open  b:KRW:5812,5411:9+0:open  b       the one with the category
  1000    KRW       a:KRW:*:10+0:open    b:KRW:*:9+0:open          b       the cheapest
  1000    KRW       a:KRW:*:10+0:open    b:KRW:*:10+0:open         a       equally cheap: by id
  1000    KRW       a:KRW:*:10+0:open    b:KRW:*:9+0:closed        a       open before cheap
  1000    KRW       a:KRW:*:10+0:closed  b:KRW:*:9+0:closed        b       all closed: the cheapest waits
  1000    KRW       a:KRW:*:1+0:closed   d:KRW:*:0+0:open          a       open, but without contract
  1000    KRW       a:KRW:*:10+0:open    b:KRW:*:0+100:open        a       1 % of 1000 is 10 too
  999     KRW       a:KRW:*:10+0:open    b:KRW:*:0+100:open        b       1 % of 999 is 9.99: not rounded
  1001    KRW       a:KRW:*:10+0:open    b:KRW:*:0+100:open        a       1 % of 1001 is 10.01
  1000    KRW       a:KRW:*:5+50:open    b:KRW:*:4+59:open         b       fixed and share are added
"""


@pytest.mark.parametrize("row", ROUTES.strip().splitlines()[1:], ids=lambda row: row.split("  ")[-1].strip())
def test_routes_are_chosen_as_the_table_says(row: str) -> None:
    amount, currency, *rest = row.split()
    specs = [part for part in rest if ":" in part and part[1] == ":"]
    chosen = next(part for part in rest if part not in specs and part != "-")
    merchant = sample.merchant(mcc="5411", networks=frozenset({"a", "b", "c"}))
    for order in permutations(network(spec) for spec in specs):
        result = route(int(amount), currency, merchant, order)
        assert (result.code.value if isinstance(result, Reason) else result) == chosen
