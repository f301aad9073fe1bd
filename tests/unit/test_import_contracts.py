"""Each contract of pyproject.toml about imports is broken by one bad import, and named by lint-imports."""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import grimp
import pytest
from importlinter import Contract, api
from importlinter.contracts.acyclic_siblings import AcyclicSiblingsContract
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.layers import LayersContract
from importlinter.contracts.protected import ProtectedContract

from tests.support.room_contract import RoomContract

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("gateway", "schemas", "streams")
TYPES: Final[Mapping[str, type[Contract]]] = {
    "acyclic_siblings": AcyclicSiblingsContract,
    "forbidden": ForbiddenContract,
    "layers": LayersContract,
    "protected": ProtectedContract,
    "room": RoomContract,
}

INSIDE: Final = "Inside a room: service, postgres, store, rules"
ROOMS: Final = "Rooms inside the gateway"
SQL: Final = "Only app and views know what runs SQL"
FIREWALL: Final = "Marketing knows no payment that it holds no permit for"
DRIVER: Final = "Only what runs SQL knows PostgreSQL's driver"
TELEMETRY: Final = "Only the way to a collector knows OpenTelemetry"
PROVING: Final = "Only the command line starts what proves the gateway"
CLIENT: Final = "A partner's client knows messages, keys and Kafka alone"
BOOKS: Final = "The check of the books shares no rule with what it checks"
WORLDS: Final = "Inside the simulation: nobody knows the world that it is a part of"
CIRCLES: Final = "No circle inside the simulation"
PURE: Final = "Rules and the contract are pure"

PLANTED: Final = [
    # (contract, who imports, what)
    ("Rooms: streams, gateway, schemas", "schemas.orders", "gateway.base.errors"),
    ("Rooms: streams, gateway, schemas", "gateway.cli.run", "streams.relay"),
    (ROOMS, "gateway.database.unit", "gateway.payments.store"),
    (ROOMS, "gateway.consents.changing", "gateway.payments.store"),
    (ROOMS, "gateway.orders.intake", "gateway.settlement.store"),
    (ROOMS, "gateway.payments.execution", "gateway.app.settings"),
    (ROOMS, "gateway.views", "gateway.app.settings"),
    (INSIDE, "gateway.payments.rules.payment", "gateway.payments.store"),
    (INSIDE, "gateway.orders.scheduled.rules", "gateway.orders.judging"),
    (INSIDE, "gateway.payments.unknown.store", "gateway.payments.unknown.postgres"),
    (INSIDE, "gateway.consents.store", "gateway.consents.changing"),
    (INSIDE, "gateway.settlement.postgres", "gateway.settlement.matching"),
    (INSIDE, "gateway.disclosure.rules.sequence", "gateway.disclosure.store"),
    (ROOMS, "gateway.disclosure.sequencer", "gateway.consents.store"),
    (INSIDE, "gateway.sharing.rules.deciding", "gateway.sharing.store"),
    (INSIDE, "gateway.sharing.store", "gateway.sharing.service"),
    (ROOMS, "gateway.sharing.service", "gateway.settlement.store"),
    (SQL, "gateway.sharing.service", "gateway.sharing.postgres"),
    (INSIDE, "gateway.marketing.rules.offers", "gateway.marketing.store"),
    (INSIDE, "gateway.marketing.store", "gateway.marketing.service"),
    (ROOMS, "gateway.marketing.service", "gateway.settlement.store"),
    (SQL, "gateway.marketing.service", "gateway.marketing.postgres"),
    (FIREWALL, "gateway.marketing.rules.campaign", "gateway.payments.rules.payment"),
    (INSIDE, "gateway.directory.tokens", "gateway.directory.card_files"),
    (SQL, "gateway.payments.execution", "gateway.payments.postgres"),
    (SQL, "gateway.orders.bulk.service", "gateway.orders.bulk.postgres"),
    (SQL, "gateway.cli.partner", "gateway.directory.registry"),
    (SQL, "gateway.cli.consent", "gateway.app.postgres"),
    (SQL, "gateway.proving.demo", "gateway.app.postgres"),
    (SQL, "streams.relay", "gateway.outbox.postgres"),
    (DRIVER, "gateway.orders.faults", "asyncpg"),
    (DRIVER, "gateway.cli.auth", "asyncpg"),
    (TELEMETRY, "gateway.observability.tracing", "opentelemetry"),
    (TELEMETRY, "gateway.app.process", "opentelemetry"),
    (PROVING, "gateway.app.process", "gateway.proving.memory.store"),
    (PROVING, "streams.relay", "gateway.proving.stack"),
    (ROOMS, "gateway.app.initiation", "gateway.client.messages"),
    (CLIENT, "gateway.client.messages", "gateway.payments.rules.lifecycle"),
    (CLIENT, "gateway.messaging.reader", "gateway.network.card_network"),
    (CLIENT, "gateway.client.sending", "asyncpg"),
    (WORLDS, "gateway.proving.simulation.crew.worker", "gateway.proving.simulation.world"),
    (WORLDS, "gateway.proving.simulation.wire.links", "gateway.proving.simulation.crew.worker"),
    (CIRCLES, "gateway.proving.simulation.wire.wire", "gateway.proving.simulation.wire.links"),
    (BOOKS, "gateway.proving.books.money", "gateway.payments.rules.ledger"),
    (PURE, "gateway.consents.rules.limits", "asyncio"),
    (PURE, "gateway.settlement.rules", "asyncpg"),
    (PURE, "schemas.codec", "random"),
]


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)


@pytest.fixture(scope="module")
def contracts() -> dict[str, Contract]:
    config = api.read_configuration(str(ROOT / "pyproject.toml"))
    return {c["name"]: _contract(c, config["session_options"]) for c in config["contracts_options"]}


def _contract(options: dict[str, Any], session: dict[str, Any]) -> Contract:
    return TYPES[options["type"]](name=options["name"], session_options=session, contract_options=options)


def test_every_contract_has_an_import_that_would_break_it(contracts: dict[str, Contract]) -> None:
    assert contracts.keys() == {name for name, *_ in PLANTED}


@pytest.mark.parametrize(("name", "importer", "imported"), PLANTED, ids=lambda value: value.rpartition(".")[2])
def test_one_bad_import_breaks_its_contract(
    graph: grimp.ImportGraph, contracts: dict[str, Contract], name: str, importer: str, imported: str
) -> None:
    assert importer in graph.modules
    assert not graph.direct_import_exists(importer=importer, imported=imported)
    assert contracts[name].check(deepcopy(graph), verbose=False).kept
    broken = deepcopy(graph)
    broken.add_import(importer=importer, imported=imported, line_number=1, line_contents=f"import {imported}")
    assert not contracts[name].check(broken, verbose=False).kept


def test_lint_imports_tells_of_a_bad_import_by_its_contracts_name(tmp_path: Path) -> None:
    for package in (*PACKAGES, "tests/support"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests" / "__init__.py").touch()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "gateway" / "payments" / "unknown" / "store.py").open("a") as store:
        store.write("\nimport gateway.payments.unknown.postgres\n")
    lint = [str(Path(sys.executable).parent / "lint-imports"), "--no-logo", "--no-cache"]
    told = subprocess.run(lint, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert [line for line in told.stdout.splitlines() if line.endswith(" BROKEN")] == [f"{INSIDE} BROKEN"]
    assert "gateway.payments.unknown.store may not import gateway.payments.unknown.postgres" in told.stdout
