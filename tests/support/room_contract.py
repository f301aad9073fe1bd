"""A contract of import-linter's: inside a room imports point from services down to postgres, store and rules."""

from collections.abc import Sequence
from typing import Any

import grimp
from importlinter import Contract, ContractCheck, fields, output
from importlinter.domain.helpers import module_expressions_to_modules


class RoomContract(Contract):
    """Modules of one room import only what lies in their own layer or below it.

    What is in none of the named layers is a service, the topmost. Other contracts hold the rooms among each other.

    Configuration options:
        rooms: packages, each a room.
        postgres, store, rules: the layers' modules, packages with all that is in them; wildcards as anywhere.
    """

    type_name = "room"

    rooms = fields.ListField(subfield=fields.ModuleExpressionField())
    postgres = fields.ListField(subfield=fields.ModuleExpressionField())
    store = fields.ListField(subfield=fields.ModuleExpressionField())
    rules = fields.ListField(subfield=fields.ModuleExpressionField())

    def check(self, graph: grimp.ImportGraph, verbose: bool) -> ContractCheck:
        layers = ("rules", "store", "postgres")
        height = {m: n for n, layer in enumerate(layers) for m in _modules(graph, getattr(self, layer))}
        upward: list[tuple[str, str]] = []
        for room in _modules(graph, self.rooms, whole=False):
            inside = {room, *graph.find_descendants(room)}
            for importer in sorted(inside):
                imported = sorted(inside & graph.find_modules_directly_imported_by(importer))
                own = height.get(importer, len(layers))
                upward += [(importer, i) for i in imported if height.get(i, len(layers)) > own]
        return ContractCheck(kept=not upward, metadata={"upward": upward})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for importer, imported in check.metadata["upward"]:
            output.print_error(f"{importer} may not import {imported}: it lies above it in their room.", bold=False)


def _modules(graph: grimp.ImportGraph, expressions: Sequence[Any], *, whole: bool = True) -> set[str]:
    return {m.name for m in module_expressions_to_modules(graph, expressions, as_packages=whole)}
